namespace KernelScope.Cli.Tests;

/// <summary>An option that would do nothing as it is given is refused, or there is a line on standard error.</summary>
public sealed class IdleOptionTests
{
    [Theory]
    [InlineData("--device", "diff", "a.npz", "b.npz", "--device", "cuda")]
    [InlineData("--model", "diff", "a.npz", "b.npz", "--model", "nowhere")]
    [InlineData("--precision", "diff", "a.npz", "b.npz", "--precision", "fast")]
    [InlineData("--no-map", "diff", "a.npz", "b.npz", "--no-map")]
    [InlineData("--no-map", "tokenize", "hello", "--no-map")]
    [InlineData("--device", "tokenize", "hello", "--device", "cuda")]
    [InlineData("--threads", "tokenize", "hello", "--threads", "2")]
    [InlineData("--device", "inspect", "demo", "--device", "cpu")]
    [InlineData("--model", "inspect", "demo", "--model", "demo")]
    [InlineData("--model", "pull", "google/gemma-2-2b", "--model", "google/gemma-2-2b")]
    [InlineData("--device", "pack", "--device", "cpu")]
    [InlineData("--threads", "catalog", "--threads", "2")]
    [InlineData("--model", "bench", "--shape", "demo", "--model", "demo")]
    [InlineData("--precision", "encode", "a.npz", "--sae", "res.3.2k.l0_19", "--precision", "fast")]
    [InlineData("--model", "encode", "a.npz", "--sae", "res.3.2k.l0_19", "--model", "demo", "--special-ids", "2")]
    [InlineData("--threads", "features", "x", "--device", "reference", "--threads", "2")]
    [InlineData("--threads", "doctor", "--threads", "2")]
    [InlineData("--precision", "doctor", "--precision", "fast")]
    [InlineData("--site", "doctor", "--site", "resid_post.3")]
    [InlineData("--site", "verify", "--site", "resid_post.3")]
    [InlineData("--site-out", "lens", "x", "--site", "resid_post.3", "--site-out", "resid_post.3")]
    [InlineData("--arrays", "eval", "--text-file", "demo", "--arrays", "summary")]
    [InlineData("--no-gradients", "eval", "--text-file", "demo", "--precision-study", "--no-gradients")]
    [InlineData("--profile", "eval", "--text-file", "demo", "--precision-study", "--profile")]
    [InlineData("--top", "generate", "x", "--top", "3")]
    [InlineData("--min-activation", "generate", "x", "--min-activation", "3")]
    [InlineData("--edit-at", "generate", "x", "--edit-at", "from_last")]
    [InlineData("--edit-at", "run", "x", "--edit-at", "all")]
    [InlineData("--edit-at", "features", "x", "--sae", "res.3.2k.l0_19", "--edit-at", "3-")]
    [InlineData("--edit-at", "run", "x", "--edit-at", "all", "--sae", "res.3.2k.l0_19", "--sae", "res.1.1k.l0_26")]
    [InlineData("--edit-at", "run", "x", "--sae", "res.3.2k.l0_19", "--ablate", "3", "--sae", "res.1.1k.l0_26", "--edit-at", "all")]
    [InlineData("--kv", "verify", "--kv", "bf16")]
    [InlineData("--kv", "tokenize", "hello", "--kv", "bf16")]
    [InlineData("--fail", "diff", "a.npz", "b.npz", "--fail", "--no-fail")]
    public void It_is_refused(string option, params string[] arguments) => Program.Run(arguments).AssertFailed(2, option);

    [Theory]
    [InlineData("--out", "dash", "--run", "run", "--out", "")]
    [InlineData("--html", "dash", "--text-file", "demo", "--features", "1", "--html", "")]
    [InlineData("--run", "dash", "--run", "", "--features", "1", "--json")]
    [InlineData("--export", "serve", "--export", "")]
    [InlineData("--dashboards", "serve", "--dashboards", "pages", "--dashboards", "")]
    [InlineData("--labels", "features", "x", "--labels", "")]
    [InlineData("--out-dir", "labels", "import", "some.jsonl", "--out-dir", "")]
    [InlineData("--text-file", "top", "1", "--text-file", "")]
    public void A_path_that_is_empty_is_bad_usage(string option, params string[] arguments) =>
        Program.Run(arguments).AssertFailed(2, $"{option} is empty");

    [Fact]
    public void An_SAE_with_which_nothing_is_done_is_warned_of()
    {
        Outcome run = Program.Run("run", "the king", "--sae", "res.3.2k.l0_19", "--json");
        Assert.Equal(0, run.ExitCode);
        Assert.Contains("--sae res.3.2k.l0_19 changes nothing here", run.Error, StringComparison.Ordinal);
        Assert.Contains("--features is not given", Program.Run("generate", "the king", "--sae", "res.3.2k.l0_19", "--max-new-tokens", "1")
            .Error, StringComparison.Ordinal);
        Assert.Equal("", Program.Run("generate", "the king", "--sae", "res.3.2k.l0_19", "--max-new-tokens", "1", "--features").Error);
    }
}
