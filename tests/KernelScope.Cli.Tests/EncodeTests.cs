using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary><c>encode</c> against SAELens (fixtures/sae/saes).</summary>
public sealed class EncodeTests
{
    [Theory]
    [InlineData("gs-48x96", false)]
    [InlineData("gs-fortran-order", false)]
    [InlineData("gs-z-64x200", false)]
    [InlineData("gs-transcoder-48to32", true)]
    [InlineData("sl-jumprelu-hook-z", false)]
    [InlineData("sl-jumprelu-layer-norm", false)]
    [InlineData("sl-jumprelu-skip-transcoder", true)]
    [InlineData("old-flat-standard-defaults", false)]
    [InlineData("sl-topk", false)]
    public void Codes_and_reconstruction_equal_SAELens(string name, bool transcoder)
    {
        using var folder = new TempFolder();
        string sae = Fixtures.Path("sae", "saes", name);
        using var golden = new Arrays(Path.Combine(sae, "expected.npz"));
        JsonElement result =
            Program.Json("encode", Path.Combine(sae, "expected.npz"), "--key", "x_33", "--sae", sae, "--out", folder.At("codes.npz"));
        using var codes = new Arrays(folder.At("codes.npz"));
        Assert.Equal(golden.Ints("row_ptr_33"), codes.Ints("row_ptr"));
        Assert.Equal(golden.Ints("feature_33"), codes.Ints("feature"));
        Assert.Equal((DType.I64, DType.I32, DType.F32, DType.F32),
            (codes.Type("row_ptr"), codes.Type("feature"), codes.Type("value"), codes.Type("reconstruction")));
        Close.Assert(golden.Floats("value_33"), codes.Floats("value"), 1e-5);
        Assert.Equal(golden.Shape("recon_33"), codes.Shape("reconstruction"));
        Close.Assert(golden.Floats("recon_33"), codes.Floats("reconstruction"), 1e-5);

        Assert.Equal(33, result.GetProperty("rows").GetInt64());
        Assert.Equal(golden.Ints("feature_33").Length / 33.0, result.GetProperty("l0").GetDouble(), 1e-12);
        JsonElement fvu = result.GetProperty("fvu");
        if (transcoder)
            Assert.Equal(JsonValueKind.Null, fvu.ValueKind);
        else
            Assert.Equal(Fvu(golden.Floats("x_33"), golden.Floats("recon_33"), (int)golden.Shape("x_33")[1]), fvu.GetDouble(), 1e-5);
    }

    [Theory]
    [InlineData("f16")]
    [InlineData("f64")]
    [InlineData("heads")]
    public void Other_types_and_shapes_are_flattened_to_the_same_rows(string form)
    {
        using var folder = new TempFolder();
        string sae = Fixtures.Path("sae", "saes", "gs-z-64x200");
        float[] x;
        using (var golden = new Arrays(Path.Combine(sae, "expected.npz")))
            x = Array.ConvertAll(golden.Floats("x_7"), v => (float)(Half)v);
        using (var writer = new NpzWriter(folder.At("acts.npz")))
        {
            writer.Add<float>("plain", x, 7, 64);
            if (form == "f16")
                writer.Add<Half>("other", Array.ConvertAll(x, v => (Half)v), 7, 1, 64);
            else if (form == "f64")
                writer.Add<double>("other", Array.ConvertAll(x, v => (double)v), 7, 64);
            else
                writer.Add<float>("other", x, 1, 7, 4, 16);
            writer.Commit();
        }

        foreach (string key in new[] { "plain", "other" })
            Program.Json("encode", folder.At("acts.npz"), "--key", key, "--sae", sae, "--out", folder.At(key + ".npz"));
        Assert.Equal(File.ReadAllBytes(folder.At("plain.npz")), File.ReadAllBytes(folder.At("other.npz")));
    }

    [Fact]
    public void What_run_captures_can_be_encoded_with_a_demo_SAE()
    {
        using var folder = new TempFolder();
        Program.Run("run", Fixtures.DemoText("tale"), "--capture", "resid_post.3", "--out", folder.At("acts.npz"));
        Program.Run("encode", folder.At("acts.npz"), "--key", "resid_post.3", "--sae", "res.3.2k.l0_19", "--out", folder.At("codes.npz"));
        using var codes = new Arrays(folder.At("codes.npz"));
        using var golden = new Arrays(Fixtures.Path("demo", "goldens", "sae-res.3.2k.l0_19.npz"));
        Assert.Equal(golden.Ints("feature_tale"), codes.Ints("feature"));
        Close.Assert(golden.Floats("recon"), codes.Floats("reconstruction"), 1e-5);
    }

    [Fact]
    public void No_rows_have_no_statistics()
    {
        using var folder = new TempFolder();
        using (var writer = new NpzWriter(folder.At("none.npz")))
        {
            writer.Add<float>("x", [], 0, 224);
            writer.Commit();
        }

        Outcome outcome =
            Program.Run("encode", folder.At("none.npz"), "--key", "x", "--sae", "res.3.2k.l0_19", "--out", folder.At("codes.npz"),
                "--json");
        Assert.Equal("{\"rows\":0,\"l0\":null,\"fvu\":null,\"rows_counted\":0}\n", outcome.Output);
        using var codes = new Arrays(folder.At("codes.npz"));
        Assert.Equal([0], codes.Ints("row_ptr"));
        Assert.Equal([0, 224], codes.Shape("reconstruction"));
    }

    [Theory]
    [InlineData("gs-unknown-key", "notes")]
    [InlineData("sl-jumprelu-whitening", "whitening")]
    public void An_unsupported_SAE_is_refused_by_name(string name, string word)
    {
        string sae = Fixtures.Path("sae", "saes", name);
        Program.Run("encode", Path.Combine(sae, "expected.npz"), "--key", "x_33", "--sae", sae).AssertFailed(1, word);
    }

    private static double Fvu(float[] x, float[] reconstruction, int width)
    {
        double[] mean =
            [.. Enumerable.Range(0, width).Select(j => Enumerable.Range(0, x.Length / width).Average(r => (double)x[(r * width) + j]))];
        double error = 0, variance = 0;
        for (int i = 0; i < x.Length; i++)
        {
            error += Math.Pow((double)x[i] - reconstruction[i], 2);
            variance += Math.Pow(x[i] - mean[i % width], 2);
        }

        return error / variance;
    }
}
