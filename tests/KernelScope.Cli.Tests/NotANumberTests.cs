using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Values that are not numbers, in an SAE or in stored activations, are refused with one sentence by whatever reads them.</summary>
public sealed class NotANumberTests
{
    [Theory]
    [InlineData("W_enc", float.NaN)]
    [InlineData("W_dec", float.PositiveInfinity)]
    [InlineData("b_enc", float.NaN)]
    [InlineData("threshold", float.NaN)]
    public void An_SAE_with_one_is_refused_by_every_verb_that_runs_it(string array, float value)
    {
        using var folder = new TempFolder();
        string sae = Broken(folder, array, value), text = folder.Write("text.txt", "She loved the river more than anything."u8);
        Program.Json("run", "She loved the river", "--capture", "resid_post.3", "--out", folder.At("acts.npz"));
        string[] files = folder.Files;
        string[] at = ["--sae", sae, "--site", "resid_post.3"];
        string what = float.IsNaN(value) ? "NaN" : "an infinite number";
        string[][] verbs =
        [
            ["features", "a river", .. at], ["generate", "a river", "--steer", "3=1", .. at], ["run", "a river", "--splice", "sae", .. at],
                ["eval", "--text-file", text, .. at], ["top", "3", "--text-file", text, .. at],
            ["attribute", "a river", "--loss", .. at], ["lens", "--feature", "3", .. at],
                ["encode", folder.At("acts.npz"), "--key", "resid_post.3", "--sae", sae, "--out", folder.At("codes.npz")],
        ];
        // One array at every verb, the others at one.
        foreach (string[] verb in array == "W_enc" ? verbs : verbs[..1])
            Program.Run(verb).AssertFailed(1, "params.npz", array, what);
        Assert.Equal(files, folder.Files);
    }

    [Fact]
    public void A_threshold_that_nothing_reaches_is_allowed()
    {
        using var folder = new TempFolder();
        Program.Json("features", "a river", "--sae", Broken(folder, "threshold", float.PositiveInfinity), "--site", "resid_post.3");
    }

    [Fact]
    public void Stored_activations_with_one_are_refused()
    {
        using var folder = new TempFolder();
        float[] values = new float[3 * 224];
        values[(2 * 224) + 5] = float.NaN;
        using (var writer = new NpzWriter(folder.At("acts.npz")))
        {
            writer.Add<float>("x", values, 3, 224);
            writer.Add<float>("resid_post.3", values, 3, 224);
            writer.Commit();
        }

        Program.Run("encode", folder.At("acts.npz"), "--key", "x", "--sae", "res.3.2k.l0_19", "--out", folder.At("codes.npz"))
            .AssertFailed(1, "row 2, value 5 is NaN");
        Program.Run("run", "a river", "--splice", "mean", "--mean-from", folder.At("acts.npz"))
            .AssertFailed(1, "acts.npz", "not a finite number");
        Assert.Equal(["acts.npz"], folder.Files);
    }

    private static string Broken(TempFolder folder, string array, float value)
    {
        string path = Path.Combine(Directory.CreateDirectory(folder.At("sae")).FullName, "params.npz");
        using var file = NpzFile.Open(Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz"));
        using var writer = new NpzWriter(path);
        foreach (TensorInfo info in file.Contents)
        {
            float[] values = file[info.Name].ToFloats();
            if (info.Name == array)
                values[^7] = value;
            writer.Add<float>(info.Name, values, info.Shape);
        }

        writer.Commit();
        return path;
    }
}
