namespace KernelScope.Cli.Tests;

/// <summary>What an option takes for its value, and what it does not.</summary>
public sealed class OptionValueTests
{
    [Theory]
    [InlineData("--temperature needs a number; '1,5'", "generate", "x", "--temperature", "1,5")]
    [InlineData("--min-activation needs a number; '1,000'", "features", "x", "--min-activation=1,000")]
    [InlineData("--tolerance needs a number; '0,001'", "diff", "a.npz", "b.npz", "--tolerance", "0,001")]
    [InlineData("--lr needs a number; '0,001'", "train", "--from", "a", "--out", "b", "--width", "8", "--lr", "0,001")]
    [InlineData("--scale needs a number; '1,5'", "train", "--from", "a", "--out", "b", "--width", "8", "--scale", "1,5")]
    [InlineData("--min-activation is 1e400", "features", "x", "--min-activation", "1e400")]
    public void A_number_has_a_point_and_is_finite(string words, params string[] arguments) => Program.Run(arguments)
        .AssertFailed(2, words);

    [Theory]
    [InlineData("--top needs a whole number; ''", "features", "--top=", "hello")]
    [InlineData("--text-file is empty", "features", "--text-file=", "hello")]
    [InlineData("--out is empty", "run", "x", "--capture", "all", "--out=", "--json")]
    [InlineData("--model is empty", "tokenize", "--model=", "hello")]
    [InlineData("--stop is an empty text", "generate", "--stop=", "hello")]
    [InlineData("'' is not a device", "run", "--device:", "cpu")]
    public void An_option_that_ends_in_an_equals_sign_is_empty_and_does_not_take_the_next_word(string words, params string[] arguments) =>
        Program.Run(arguments).AssertFailed(2, words);

    [Theory]
    [InlineData("--json takes no value; this is '--json=false'", "features", "x", "--json=false")]
    [InlineData("--dense takes no value; this is '--dense='", "features", "x", "--dense=")]
    [InlineData("--no-map takes no value; this is '--no-map:true'", "run", "x", "--no-map:true")]
    public void A_flag_takes_no_value(string words, params string[] arguments) => Program.Run(arguments).AssertFailed(2, words);

    [Theory]
    [InlineData("true")]
    [InlineData("false")]
    public void The_word_after_a_flag_is_the_text(string text) =>
        Assert.Equal(Program.Json("tokenize", text).ToString(), Program.Json("tokenize", "--json", text).ToString());

    [Fact]
    public void After_two_dashes_nothing_is_an_option() =>
        Assert.Equal("--json=", string.Concat(Program.Run("tokenize", "--json", "--", "--json=").Json().GetProperty("pieces")
            .EnumerateArray().Select(p => p.GetString())));

    [Theory]
    [InlineData("PATH", "inspect", "")]
    [InlineData("PATH", "inspect", "demo", "")]
    [InlineData("ACTS", "encode", "", "--sae", "res.3.2k.l0_19")]
    [InlineData("A", "diff", "", "b.npz")]
    [InlineData("B", "diff", "a.npz", "")]
    [InlineData("RUN", "status", "")]
    public void An_argument_that_is_a_path_is_not_empty(string argument, params string[] arguments) => Program.Run(arguments)
        .AssertFailed(2, $"{argument} is empty");

    [Fact]
    public void A_seed_is_shown_as_a_choice_of_tokens_only_where_tokens_are_chosen()
    {
        Assert.DoesNotContain("Choice of the next token", Program.Run("help", "train").Output, StringComparison.Ordinal);
        Assert.Contains("  --seed", Program.Run("help", "train").Output, StringComparison.Ordinal);
        Assert.Contains("Choice of the next token", Program.Run("help", "generate").Output, StringComparison.Ordinal);
    }
}
