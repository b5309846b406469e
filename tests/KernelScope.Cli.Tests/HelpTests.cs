namespace KernelScope.Cli.Tests;

public sealed class HelpTests
{
    [Theory]
    [InlineData("features")]
    [InlineData("generate")]
    [InlineData("run")]
    [InlineData("tokenize")]
    [InlineData("encode")]
    [InlineData("eval")]
    [InlineData("inspect")]
    [InlineData("doctor")]
    [InlineData("catalog")]
    [InlineData("pull")]
    [InlineData("attribute")]
    [InlineData("lens")]
    [InlineData("diff")]
    [InlineData("top")]
    [InlineData("verify")]
    [InlineData("bench")]
    public void Every_verb_shows_an_example(string verb)
    {
        Outcome outcome = Program.Run(verb, "--help");
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
        Assert.Contains($"Example:\n    kernelscope {(verb == "encode" ? "run" : verb)} ", outcome.Output.ReplaceLineEndings("\n"), StringComparison.Ordinal);
        foreach (string option in new[] { "--model", "--device", "--precision", "--threads", "--json" })
            Assert.Contains(option, outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_program_lists_its_verbs_and_its_version()
    {
        Assert.Contains("features", Program.Run("--help").Output, StringComparison.Ordinal);
        Assert.StartsWith("0.", Program.Run("--version").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_trace_is_shown_to_those_who_ask()
    {
        Outcome outcome = Program.RunWith(null, new Dictionary<string, string> { ["KERNELSCOPE_TRACE"] = "1" }, "features", "x", "--sae", "/no/such/sae");
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("   at KernelScope.", outcome.Error, StringComparison.Ordinal);
    }
}
