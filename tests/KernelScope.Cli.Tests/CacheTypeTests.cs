using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>--kv bf16</c>: keys and values in half the bytes, where it was asked for and nowhere else.</summary>
public sealed class CacheTypeTests
{
    [Fact]
    public void Doctor_plans_half_the_bytes_of_the_cache()
    {
        long Bytes(params string[] more) =>
            Program.Json(["doctor", "--model", "google/gemma-2-2b", "--context", "8192", "--before-download", .. more])
                .GetProperty("model").GetProperty("context_bytes").GetInt64();
        // 13 global layers of 8,192 positions and 13 sliding ones of 4,096 and a chunk less one; 4 heads of 256, keys and values.
        const long Cache = 13L * (8192 + 4096 + 255) * 4 * 256 * 2 * sizeof(float);
        Assert.Equal(Bytes(), Bytes("--kv", "f32"));
        Assert.Equal(Cache / 2, Bytes() - Bytes("--kv", "bf16"));
    }

    [Fact]
    public void Results_change_a_little_and_only_with_the_option()
    {
        double[] Losses(params string[] more) => [.. Program.Json(["run", "The king of the hill said that", .. more])
            .GetProperty("next_token_loss").EnumerateArray().Select(v => v.GetDouble())];
        double[] plain = Losses(), narrow = Losses("--kv", "bf16");
        Assert.Equal(plain, Losses("--kv", "f32"));
        Assert.NotEqual(plain, narrow);
        Assert.All(plain.Zip(narrow), pair => Assert.InRange(pair.Second - pair.First, -0.05, 0.05));
        // The definition of every op keeps the same cache.
        double[] reference = Losses("--kv", "bf16", "--device", "reference");
        Assert.All(reference.Zip(narrow), pair => Assert.InRange(pair.Second - pair.First, -0.01, 0.01));
    }

    [Fact]
    public void What_names_the_precision_names_it()
    {
        JsonElement bench = Program.Json("bench", "--shape", "demo", "--rounds", "1", "--kv", "bf16");
        Assert.Equal(("exact", "bf16"), (bench.GetProperty("precision").GetString(), bench.GetProperty("kv").GetString()));
        JsonElement verify = Program.Json("verify", "--op", "Softcap", "--in-process", "--scale", "tiny");
        Assert.Equal(("exact", "f32"), (verify.GetProperty("precision").GetString(), verify.GetProperty("kv").GetString()));
    }

    [Fact]
    public void A_refusal_says_why()
    {
        Program.Run("verify", "--kv", "bf16").AssertFailed(2, "stored and published numbers are of float32 keys and values");
        Program.Run("run", "x", "--kv", "f16").AssertFailed(2, "there are f32 and bf16");
    }
}
