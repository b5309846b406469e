using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>doctor --sae</c>: whether an SAE fits where it is used.</summary>
public sealed class DoctorFitTests
{
    [Fact]
    public void An_SAE_in_its_place_is_not_doubted()
    {
        JsonElement fit = Program.Json("doctor", "--sae", "res.3.2k.l0_19").GetProperty("fit");
        Assert.Equal(19, fit.GetProperty("released_l0").GetDouble());
        Assert.Equal(JsonValueKind.Null, fit.GetProperty("doubt").ValueKind);
        Assert.InRange(fit.GetProperty("used").GetProperty("l0").GetDouble(), 10, 40);
        Assert.True(fit.GetProperty("tried").GetArrayLength() > 5);
        Assert.Contains("on a sample text: L0", Program.Run("doctor", "--sae", "att.3.1k.l0_42").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void An_SAE_at_a_wrong_layer_is_doubted_and_the_right_one_is_named()
    {
        using var folder = new TempFolder();
        string moved = folder.At("average_l0_37.npz");
        File.Copy(Path.Combine(Fixtures.DemoSaes, "mlp", "layer_3", "width_1k", "average_l0_37", "params.npz"), moved);
        string doubt = Program.Json("doctor", "--sae", moved, "--site", "mlp_out.3").GetProperty("fit").GetProperty("doubt").GetString()!;
        Assert.Contains("mlp_out_post.3", doubt, StringComparison.Ordinal);
        Outcome misplaced = Program.Run("doctor", "--sae", moved, "--site", "z.3");
        Assert.Equal(1, misplaced.ExitCode);
        Assert.Contains("256", misplaced.Output, StringComparison.Ordinal);
    }
}
