using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>--no-map</c>: weights in memory, not mapped.</summary>
public sealed class NoMapTests
{
    [Fact]
    public void Weights_that_are_read_into_memory_give_the_same_numbers()
    {
        string sae = Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz");
        string[] arguments = ["features", "the king", "--model", Fixtures.DemoModel, "--sae", sae];
        Assert.Equal(Tokens(Program.Json(arguments)), Tokens(Program.Json([.. arguments, "--no-map"])));

        static string Tokens(JsonElement result) => result.GetProperty("tokens").GetRawText();
    }
}
