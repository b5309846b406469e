using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Runs whose rows are stored rounded: what that changed is measured when they are written, and said when they are used.</summary>
public sealed class RoundedRunTests
{
    private const int Width = 224;

    [Theory]
    [InlineData("bf16")]
    [InlineData("f16")]
    public void A_manifest_holds_what_rounding_changed_and_train_says_it(string type)
    {
        using var folder = new TempFolder();
        foreach (string dtype in new[] { "f32", type })
            Program.Json("harvest", "--out", folder.At(dtype), "--text-file", "demo", "--sites", "mlp_out_post.3", "--context", "64",
                "--dtype", dtype);
        Assert.False(Site(folder.At("f32")).TryGetProperty("sum_squared_rounding", out _));
        float[] exact = Rows(folder.At("f32")), stored = Rows(folder.At(type));
        double error = exact.Zip(stored, (x, y) => ((double)x - y) * ((double)x - y)).Sum();
        Assert.True(error > 0);
        Assert.Equal(error, Site(folder.At(type)).GetProperty("sum_squared_rounding").GetDouble(), error * 1e-9);

        double variance = 0;
        for (int j = 0; j < Width; j++)
        {
            double[] column = [.. Enumerable.Range(0, exact.Length / Width).Select(r => (double)exact[(r * Width) + j])];
            double mean = column.Average();
            variance += column.Sum(x => (x - mean) * (x - mean));
        }

        Outcome training = Train(folder, type);
        Assert.Contains(FormattableString.Invariant($"in the first shard: {error / variance:0.0e+0})"), training.Error,
            StringComparison.Ordinal);
        Assert.DoesNotContain("warning: the run holds rows", Train(folder, "f32").Error, StringComparison.Ordinal);
    }

    /// <summary>The log has both losses, unless it is asked for none.</summary>
    [Fact]
    public void Delta_loss_is_measured_where_the_model_is_found()
    {
        using var folder = new TempFolder();
        Program.Json("harvest", "--out", folder.At("run"), "--text-file", "demo", "--sites", "mlp_out_post.3", "--context", "64");
        JsonElement result = JsonElement.Parse(Train(folder, "run", "--validate-every", "10", "--json").Output);
        JsonElement[] validations = [.. File.ReadLines(folder.At("run.sae", "log.jsonl")).Select(line => JsonElement.Parse(line))
            .Where(line => line.TryGetProperty("validation", out _)).Select(line => line.GetProperty("validation"))];
        Assert.Equal(2, validations.Length);
        Assert.Equal(validations[0].GetProperty("ce_clean").GetDouble(), validations[1].GetProperty("ce_clean").GetDouble());
        Assert.NotEqual(validations[0].GetProperty("delta_loss").GetDouble(), validations[1].GetProperty("delta_loss").GetDouble());
        Assert.Equal(validations[1].GetProperty("delta_loss").GetDouble(), result.GetProperty("delta_loss").GetDouble());
        Assert.False(Directory.Exists(folder.At("run.sae", ".validation")));

        Outcome without = Train(folder, "run", "--loss-sequences", "0", "--json");
        Assert.Equal(JsonValueKind.Null, JsonElement.Parse(without.Output).GetProperty("delta_loss").ValueKind);
        Assert.DoesNotContain("Delta loss is not measured", without.Error, StringComparison.Ordinal);
    }

    private static Outcome Train(TempFolder folder, string run, params string[] more)
    {
        string sae = folder.At($"{run}.sae");
        if (Directory.Exists(sae))
            Directory.Delete(sae, recursive: true);
        Outcome outcome = Program.Run(["train", "--from", folder.At(run), "--site", "mlp_out_post.3", "--width", "64", "--sparsity", "0.01",
            "--steps", "20", "--batch", "64", "--bandwidth", "0.05", "--theta", "0.05", "--validation", "0.3", "--out", sae, .. more]);
        Assert.True(outcome.ExitCode == 0, outcome.Error);
        return outcome;
    }

    private static JsonElement Site(string run) => JsonElement.Parse(File.ReadAllBytes(Path.Combine(run, "shards", "000000.json")))
        .GetProperty("sites").GetProperty("mlp_out_post.3");

    private static float[] Rows(string run)
    {
        using var file = SafetensorsFile.Open(Path.Combine(run, "acts", "mlp_out_post.3", "000000.safetensors"));
        return file["x"].ToFloats();
    }
}
