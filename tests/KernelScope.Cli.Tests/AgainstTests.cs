using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary><c>run --against</c>: where a run parts from stored activations.</summary>
public sealed class AgainstTests
{
    [Theory]
    [InlineData("base")]
    [InlineData("hd128")]
    public void A_run_agrees_with_transformers_activations_of_its_tokens(string name)
    {
        string model = Fixtures.Path("gemma2", "models", name);
        JsonElement result = Program.Json("run", "--model", model, "--against", Path.Combine(model, "expected.npz"), "--fail");
        JsonElement against = result.GetProperty("against");
        Assert.False(against.GetProperty("parts").GetBoolean());
        Assert.Equal(JsonValueKind.Null, against.GetProperty("first").ValueKind);
        Assert.True(against.GetProperty("arrays").GetArrayLength() > 20);
        Assert.Equal("tokens", against.GetProperty("arrays")[0].GetProperty("name").GetString());
    }

    [Fact]
    public void The_first_point_position_and_element_that_part_are_named()
    {
        using var folder = new TempFolder();
        string[] run = ["run", "She loved the river"];
        Program.Json([.. run, "--capture", "resid_post.2,resid_mid.3,resid_post.3,resid_post.4,logits", "--out", folder.At("plain.npz")]);
        string[] edited = [.. run, "--against", folder.At("plain.npz"), "--splice", "zero", "--edit-at", "2-"];
        JsonElement first = Program.Json(edited).GetProperty("against").GetProperty("first");
        Assert.Equal(("resid_post.3", 2, 0),
            (first.GetProperty("name").GetString(), first.GetProperty("position").GetInt32(), first.GetProperty("element").GetInt32()));
        Assert.Equal(0, first.GetProperty("b").GetDouble());
        Outcome failed = Program.Run([.. edited, "--fail"]);
        Assert.Equal(1, failed.ExitCode);
        Assert.Contains("they part at resid_post.3, position 2, element 0", failed.Output, StringComparison.Ordinal);
        Assert.Equal(0, Program.Run([.. edited, "--fail", "--tolerance", "1000"]).ExitCode);
        Assert.Contains("they part at tokens", Program.Run("run", "She loved him", "--against", folder.At("plain.npz")).Output,
            StringComparison.Ordinal);
    }

    [Fact]
    public void What_cannot_be_compared_is_refused()
    {
        using var folder = new TempFolder();
        using (var writer = new NpzWriter(folder.At("other.npz")))
        {
            writer.Add<float>("W_enc", [1, 2], 2);
            writer.Commit();
        }

        using (var writer = new NpzWriter(folder.At("no-tokens.npz")))
        {
            writer.Add<float>("resid_post.0", [1, 2], 1, 2);
            writer.Commit();
        }

        Program.Run("run", "x", "--against", folder.At("other.npz")).AssertFailed(1, "no array that is named by a hook point", "W_enc");
        Program.Run("run", "--against", folder.At("no-tokens.npz")).AssertFailed(2, "no array 'tokens'");
        Program.Run("run", "x", "--against", folder.At("none.npz")).AssertFailed(1, "none.npz");
        Program.Run("run", "x", "--fail").AssertFailed(2, "--against");
        Program.Run("run", "--fail").AssertFailed(2, "a text is missing");
    }
}
