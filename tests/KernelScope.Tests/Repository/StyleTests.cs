using System.Text.RegularExpressions;

namespace KernelScope.Tests.Repository;

/// <summary>
/// What the formatter does not hold: a line of code has at most 140 characters, and the statement of an <c>if</c> or a loop stands on a line of
/// its own.
/// </summary>
public partial class StyleTests
{
    private const int MaxColumns = 140;
    private const string ThreeQuotes = "\"\"\"";

    private static readonly string[] Folders = ["bench/", "kernels/", "src/", "tests/", "tools/"];

    /// <summary>Comments may be longer, as a table or a path does not break well, and what stands between three quotes, which is data.</summary>
    [Fact]
    public void A_line_of_code_has_at_most_140_characters()
    {
        string[] longer = [.. from line in Lines() where IsTooLong(line.Text) select line.Place];
        Assert.True(longer.Length == 0, string.Join('\n', longer));
    }

    [Fact]
    public void A_statement_stands_below_its_condition()
    {
        string[] beside = [.. from line in Lines() where OneLine().IsMatch(line.Text) select line.Place];
        Assert.True(beside.Length == 0, string.Join('\n', beside));
    }

    [Theory]
    [InlineData("        if (x) return;")]
    [InlineData("else if (f(x, (y))) throw new Error(\"a\"); // why")]
    [InlineData("while (Next()) Step();")]
    [InlineData("foreach (int i in all) sum += i;")]
    public void The_search_finds_a_statement_beside_its_condition(string line) => Assert.Matches(OneLine(), line);

    [Theory]
    [InlineData("        if (x)")]
    [InlineData("for (int shift = 0; ; shift += 7)")]
    [InlineData("int y = f(if_x) + 1;")]
    [InlineData("if (a) // why")]
    [InlineData("while (begin >= 0 && !(b is '{' or '#') && ++begin > 0);")]
    public void The_search_finds_nothing_else(string line) => Assert.DoesNotMatch(OneLine(), line);

    private static bool IsTooLong(string line) => line.Length > MaxColumns && !Comment().IsMatch(line);

    private static IEnumerable<(string Place, string Text)> Lines() =>
        from file in RepositoryFiles.All(".cs")
        where Folders.Any(folder => file.StartsWith(folder, StringComparison.Ordinal))
        from line in LinesOf(file)
        select line;

    private static IEnumerable<(string Place, string Text)> LinesOf(string file)
    {
        bool isData = false;
        foreach ((int index, string line) in File.ReadLines(Path.Combine(Fixtures.Root, file)).Index())
        {
            int quotes = line.Split(ThreeQuotes).Length - 1;
            if (!isData && quotes == 0)
                yield return ($"{file}:{index + 1}", line);
            isData ^= quotes % 2 == 1;
        }
    }

    [GeneratedRegex(@"^\s*//")]
    private static partial Regex Comment();

    [GeneratedRegex(@"^\s*(else )?(if|while|for|foreach) \(.*\) [\w(*].*;\s*(//.*)?$")]
    private static partial Regex OneLine();
}
