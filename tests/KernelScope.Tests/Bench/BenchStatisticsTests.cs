using System.Text.Json.Nodes;
using KernelScope.Bench;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Tests.Bench;

/// <summary>What the bench program computes from its measurements.</summary>
public sealed class BenchStatisticsTests
{
    [Fact]
    public void A_spread_has_the_smallest_the_middle_and_the_largest()
    {
        Assert.Equal(new Spread(1, 2, 9), Spread.Of([9, 1, 2]));
        Assert.Equal(new Spread(1, 2.5, 9), Spread.Of([9, 1, 2, 3]));
        Assert.Equal(new Spread(4, 4, 4), Spread.Of([4]));
    }

    [Fact]
    public void Results_agree_within_a_share_of_the_largest()
    {
        Assert.Null(Agreement.Within(0.01)([100, 1], [100.9f, 0.5f]));
        Assert.NotNull(Agreement.Within(0.01)([100, 1], [101.1f, 1]));
        Assert.NotNull(Agreement.Within(0.01)([100, 1], [100]));
        Assert.NotNull(Agreement.Within(0.01)([100, 1], [100, float.NaN]));
        Assert.NotNull(Agreement.Within(0.01)([0], [0]));
    }

    [Fact]
    public void A_2B_shape_reads_5_2_GB_a_token_and_takes_2_TFLOP_for_512()
    {
        // Gemma 2 2B's config.json; 2,614,341,888 parameters as its checkpoint on the hub has them.
        Gemma2Config shape = ModelSizes.ConfigOf("gemma-2-2b");
        Assert.Equal(2_614_341_888, ModelSizes.Weights(shape));
        // The 100th token: weights in bfloat16; of each layer 100 keys and values in float32, one row of queries and one of z.
        Assert.Equal(26 * ((2 * 77_856_768.0) + (100 * 4 * 256 * 8) + (2 * 8 * 256 * 4)), ModelSizes.Layers(shape, 1, 99, 2).Bytes);
        Assert.Equal((2 * 256_000.0 * 2304) + (4 * (2304 + 256_000)), ModelSizes.Head(shape, 2).Bytes);
        // 2·512·26·77,856,768 of products and keys 512·513/2 of 26 layers; one row of logits.
        Assert.Equal((2.0 * 512 * 26 * 77_856_768) + (26 * 131_328.0 * 8 * 256 * 4), ModelSizes.Layers(shape, 512, 0, 2).Flops);
        Assert.Equal(2.0 * 256_000 * 2304, ModelSizes.Head(shape, 2).Flops);
        // Beyond the window only global layers see more.
        double keys = (13 * (5000 * 5001 / 2.0)) + (13 * ((4096 * 4097 / 2.0) + (904 * 4096.0)));
        Assert.Equal((2.0 * 5000 * 26 * 77_856_768) + (keys * 8 * 256 * 4), ModelSizes.Layers(shape, 5000, 0, 2).Flops);
    }

    [Fact]
    public void The_table_says_which_path_was_taken_and_reads_files_of_earlier_versions()
    {
        JsonObject cases = JsonNode.Parse("""
            {
              "old": { "instruction_set": "AVX2", "seconds": { "min": 1, "median": 2, "max": 3 }, "share": null, "peers": {} },
              "new": { "path": "AVX-512, vdpbf16ps", "tokens": 8, "seconds": { "min": 1, "median": 2, "max": 3 }, "limit": { "name": "read bandwidth" }, "share": { "min": 0.5, "median": 0.9, "max": 1 },
                       "readings": { "peak memory": { "unit": "GiB", "value": { "min": 4, "median": 5, "max": 6 } } }, "peers": { "Other": { "ratio": { "min": 1, "median": 1.5, "max": 2 } } } }
            }
            """)!.AsObject();
        string[] lines = [.. ReportTable.Of(cases).Split('\n').SkipWhile(line => !line.StartsWith("| ---", StringComparison.Ordinal))];
        Assert.Equal("| old | AVX2 | 2000 |  |  |  |  |", lines[1]);
        Assert.Equal(
            "| new | AVX-512, vdpbf16ps | 2000 | 4 | read bandwidth 0.90 (0.50 to 1.00) | Other 1.50 (1.00 to 2.00) | peak memory 5.00 "
                + "(4.00 to 6.00) GiB |", lines[2]);
    }

    [Fact]
    public void The_committed_table_is_that_of_the_JSON_beside_it()
    {
        string results = Path.Combine(Fixtures.Root, "bench", "results");
        JsonNode json = JsonNode.Parse(File.ReadAllText(Path.Combine(results, "cpu.json")))!;
        Assert.Equal(ReportTable.Of(json["cases"]!.AsObject()), File.ReadAllText(Path.Combine(results, "cpu.md")));
    }
}
