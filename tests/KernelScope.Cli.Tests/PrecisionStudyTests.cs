using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>eval --precision-study</c> on devices that compute in both precisions.</summary>
public sealed class PrecisionStudyTests
{
    private static readonly string Folder = Fixtures.Path("sae", "evaluation");
    private static readonly string[] Eval =
        ["eval", "--model", Path.Combine(Folder, "model"), "--sae", Path.Combine(Folder, "sae-resid_post.2"), "--site", "resid_post.2"];

    [Theory]
    [InlineData("cpu")]
    [InlineData("emulated")]
    public void Both_precisions_are_what_eval_gives_in_each_and_the_active_sets_are_counted(string device)
    {
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", "[[2,17,44,9,100,23,7,8,200,210,13,14],[2,5,6,7,8,9,10,11]]"u8);
        string[] arguments = [.. Eval, "--tokens-file", tokens, "--device", device, "--resamples", "50"];
        JsonElement study = Program.Json([.. arguments, "--precision-study", "model"]);
        Assert.Equal(device, study.GetProperty("device").GetString());
        JsonElement sae = study.GetProperty("saes")[0], rows = sae.GetProperty("metrics"), sets = sae.GetProperty("active_sets");
        foreach (string precision in new[] { "exact", "fast" })
        {
            JsonElement metrics = Program.Json([.. arguments, "--precision", precision, "--no-gradients"]).GetProperty("metrics");
            Assert.Equal(metrics.GetProperty("fvu").GetDouble(), rows.GetProperty("fvu").GetProperty(precision).GetDouble());
            Assert.Equal(metrics.GetProperty("ce_clean").GetProperty("default").GetDouble(),
                rows.GetProperty("ce_clean").GetProperty(precision).GetDouble());
            Assert.Equal(metrics.GetProperty("splices").GetProperty("sae/keep_bos").GetProperty("delta").GetProperty("default").GetDouble(),
                rows.GetProperty("delta").GetProperty(precision).GetDouble());
            double active = metrics.GetProperty("L0").GetDouble() * study.GetProperty("counts").GetProperty("act_mask").GetInt64();
            Assert.Equal(active, sets.GetProperty(precision).GetInt64(), 1e-9);
        }

        foreach (JsonProperty row in rows.EnumerateObject())
        {
            double difference = row.Value.GetProperty("fast").GetDouble() - row.Value.GetProperty("exact").GetDouble();
            Assert.Equal(difference, row.Value.GetProperty("difference").GetDouble());
            Assert.InRange(difference, row.Value.GetProperty("interval")[0].GetDouble() - 1e-12,
                row.Value.GetProperty("interval")[1].GetDouble() + 1e-12);
        }

        // On the cpu fast computes as exact up to some rows, and everywhere without bfloat16 instructions.
        if (device != "cpu")
            Assert.NotEqual(0, rows.GetProperty("ce_clean").GetProperty("difference").GetDouble());
        Assert.InRange(sets.GetProperty("both").GetInt64(),
            1, Math.Min(sets.GetProperty("exact").GetInt64(), sets.GetProperty("fast").GetInt64()));
    }

    [Fact]
    public void People_get_a_table()
    {
        Outcome table = Program.Run(
            [.. Eval, "--tokens-file", Path.Combine(Folder, "tokens.json"), "--resamples", "50", "--precision-study"]);
        Assert.Equal(0, table.ExitCode);
        Assert.Contains("active sets: the same at", table.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void What_does_not_go_with_it_is_refused()
    {
        string[] arguments = [.. Eval, "--tokens-file", Path.Combine(Folder, "tokens.json"), "--precision-study"];
        Program.Run([.. arguments, "some"]).AssertFailed(2, "both and model");
        Program.Run([.. arguments, "--precision", "fast"]).AssertFailed(2, "--precision");
        Program.Run([.. arguments, "--out", "f.npz"]).AssertFailed(2, "--out");
        Program.Run([.. arguments, "--device", "reference"]).AssertFailed(1, "exact precision only");
    }
}
