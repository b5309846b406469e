using System.Text.RegularExpressions;

namespace KernelScope.Tests.Repository;

/// <summary>
/// What the comments of the public API owe a stranger. That every member has one, the compiler sees to; that examples compile, the project
/// KernelScope.Examples.
/// </summary>
public partial class PublicDocsTests
{
    [Fact]
    public void Every_public_type_says_how_many_threads_may_use_it()
    {
        Dictionary<string, string> docs = Docs();
        Assert.InRange(docs.Count, 150, int.MaxValue);
        string[] silent = [.. from type in docs
                              where !type.Key.EndsWith("Exception", StringComparison.Ordinal) && !Threads().IsMatch(type.Value)
                              select type.Key];
        Assert.Empty(silent);
    }

    [Fact]
    public void Every_type_that_the_first_API_page_names_has_an_example()
    {
        string page = File.ReadAllText(Path.Combine(Fixtures.Root, "tools/docs/index.md"));
        string[] named = [.. Name().Matches(page).Select(m => m.Groups[1].Value)];
        Assert.InRange(named.Length, 10, int.MaxValue);
        string[] shown = [.. Sources().Where(source => source.Contains("<code>", StringComparison.Ordinal))];
        string[] missing = [.. named.Where(name => !shown.Any(source => Regex.IsMatch(source, $@"(?m)^public .*\b{name}\b")))];
        Assert.Empty(missing);
    }

    /// <summary>Or the tests above could not fail.</summary>
    [Fact]
    public void The_search_sees_types_and_their_comments()
    {
        Match type = PublicType().Match(
            "using A;\n\n/// <summary>It.</summary>\n/// <remarks>For one caller at a time.</remarks>\n[B]\npublic sealed record C\n{\n");
        Assert.Equal("C", type.Groups["name"].Value);
        Assert.Matches(Threads(), type.Groups["doc"].Value);
        Assert.DoesNotMatch(Threads(), "/// <summary>It.</summary>");
        Assert.DoesNotMatch(PublicType(), "    public class Inner\n");
    }

    /// <summary>Comments by type; those of the parts of a partial type together.</summary>
    private static Dictionary<string, string> Docs()
    {
        Dictionary<string, string> docs = [];
        foreach (Match type in Sources().SelectMany(source => PublicType().Matches(source)))
            docs[type.Groups["name"].Value] = docs.GetValueOrDefault(type.Groups["name"].Value) + type.Groups["doc"].Value;
        return docs;
    }

    private static IEnumerable<string> Sources()
    {
        string[] projects = [.. RepositoryFiles.All("PublicAPI.Unshipped.txt").Select(path => Path.GetDirectoryName(path) + "/")];
        return RepositoryFiles.All(".cs").Where(file => projects.Any(p => file.StartsWith(p, StringComparison.Ordinal)))
            .Select(file => File.ReadAllText(Path.Combine(Fixtures.Root, file)));
    }

    [GeneratedRegex(@"(?m)^(?<doc>(?:(?:///|\[).*\n)*)public (?:\w+ )*?(?:class|struct|record|interface) (?!struct)(?<name>\w+)")]
    private static partial Regex PublicType();

    [GeneratedRegex("thread|one caller")]
    private static partial Regex Threads();

    [GeneratedRegex(@"`(\w+)`")]
    private static partial Regex Name();
}
