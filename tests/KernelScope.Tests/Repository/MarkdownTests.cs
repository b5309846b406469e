using System.Text.RegularExpressions;

namespace KernelScope.Tests.Repository;

/// <summary>What the Markdown pages name is there: relative links with their headings, and paths in backticks.</summary>
public partial class MarkdownTests
{
    /// <summary>Folders of the repository by which a path in backticks is known to be one.</summary>
    private static readonly string[] Roots = ["src/", "tests/", "tools/", "kernels/", "bench/", ".ci/", ".config/", "KernelScope"];

    private static readonly string[] Placeholders = ["…", "NN-"];

    public static TheoryData<string> Pages => [.. RepositoryFiles.All(".md")];

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_relative_link_leads_somewhere(string page)
    {
        string[] broken = [.. Links(Text(page)).Where(link => !Leads(page, link))];
        Assert.Empty(broken);
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_path_in_backticks_exists(string page)
    {
        string[] missing = [.. PathsIn(Text(page)).Where(path => !Exists(page, path))];
        Assert.Empty(missing);
    }

    /// <summary>Or the tests above could not fail.</summary>
    [Fact]
    public void The_search_finds_what_is_wrong()
    {
        const string Text =
            "[a](README.md) [b](nowhere.md) [c](README.md#no-such-heading) `src/Nothing.cs` `tests/README.md` `src/*/PACKAGE.md`";
        Assert.Equal(["nowhere.md", "README.md#no-such-heading"], Links(Text).Where(link => !Leads("README.md", link)));
        Assert.Equal(["src/Nothing.cs"], PathsIn(Text).Where(path => !Exists("README.md", path)));
    }

    private static string Text(string page) => File.ReadAllText(Path.Combine(Fixtures.Root, page));

    private static IEnumerable<string> Links(string text) =>
        from match in Link().Matches(Fence().Replace(text, ""))
        let link = match.Groups[1].Value
        where !link.Contains("://", StringComparison.Ordinal)
        select link;

    private static bool Leads(string page, string link)
    {
        string[] parts = link.Split('#', 2);
        string target = parts[0].Length == 0 ? page : Path.Combine(Path.GetDirectoryName(page)!, parts[0]);
        string path = Path.Combine(Fixtures.Root, target);
        if (!Path.Exists(path))
            return false;
        return parts.Length == 1 || Heading().Matches(File.ReadAllText(path)).Any(heading => Anchor(heading.Groups[1].Value) == parts[1]);
    }

    /// <summary>A heading as hosting sites name it in links: lower case, without punctuation, with hyphens for spaces.</summary>
    private static string Anchor(string heading) =>
        string.Concat(heading.Trim().ToLowerInvariant().Where(c => char.IsLetterOrDigit(c) || c is ' ' or '-' or '_')).Replace(' ', '-');

    /// <summary>A path ends at the first space; what has a placeholder in it (DIR, NN, …) is not one.</summary>
    private static IEnumerable<string> PathsIn(string text) =>
        from match in Backticks().Matches(Fence().Replace(text, ""))
        let path = match.Groups[1].Value.Split(' ')[0].TrimEnd('/', '.', ',', ':')
        where path.Contains('/', StringComparison.Ordinal) && Roots.Any(root => path.StartsWith(root, StringComparison.Ordinal))
        where !Placeholders.Any(path.Contains)
        select path;

    /// <summary>From the root, from <c>src/</c>, or beside the page; with stars, at least one file.</summary>
    private static bool Exists(string page, string path)
    {
        string[] bases = [Fixtures.Root, Path.Combine(Fixtures.Root, "src"), Path.Combine(Fixtures.Root, Path.GetDirectoryName(page)!)];
        if (!path.Contains('*', StringComparison.Ordinal))
            return bases.Any(folder => Path.Exists(Path.Combine(folder, path)));
        var pattern = new Regex($"(^|/){Regex.Escape(path).Replace("\\*", "[^/]*", StringComparison.Ordinal)}$");
        return RepositoryFiles.All("").Any(file => pattern.IsMatch(file));
    }

    [GeneratedRegex(@"(?s)```.*?```")]
    private static partial Regex Fence();

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"(?m)^#+ (.+)$")]
    private static partial Regex Heading();

    [GeneratedRegex("`([^`\n]+)`")]
    private static partial Regex Backticks();
}
