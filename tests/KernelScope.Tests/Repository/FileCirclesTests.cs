using System.Text.RegularExpressions;

namespace KernelScope.Tests.Repository;

/// <summary>Files that can be read one after the other: none needs a file that needs it.</summary>
public partial class FileCirclesTests
{
    // Files that are one thing: vectors and the types that they load, each of which is written in terms of the other.
    private static readonly Dictionary<string, string> SameAs = new() { ["Element"] = "ISimd" };

    [Theory]
    [InlineData("KernelScope.Cpu")]
    [InlineData("KernelScope/Numerics")]
    [InlineData("KernelScope/Hooks")]
    [InlineData("KernelScope.Text/Generation")]
    [InlineData("KernelScope.Activations")]
    [InlineData("KernelScope.Diagnostics")]
    [InlineData("KernelScope.Distributed")]
    [InlineData("KernelScope.Extensions")]
    public void No_file_needs_one_that_needs_it(string folder) => Assert.Empty(Circles(Sources(folder)));

    /// <summary>These folders still have circles, or files between two of them. A list may only become shorter: whoever opens a circle takes it out.</summary>
    [Theory]
    [InlineData("KernelScope/Devices", "AdamStep", "Device", "OpGate")]
    [InlineData("KernelScope/Files", "NpzFile", "TensorFile", "TensorView", "ZipDirectory")]
    [InlineData("KernelScope/Sae", "CircuitTracerConfig", "SaeCheckpoint")]
    [InlineData("KernelScope.Hub", "HubException", "HubHttp")]
    public void Circles_become_fewer(string folder, params string[] left) => Assert.Equal(left, Circles(Sources(folder)));

    /// <summary>Or the test above could not fail.</summary>
    [Fact]
    public void A_circle_is_found() => Assert.Equal(
        ["A", "B", "C"],
        Circles(new()
        {
            ["A"] = "internal struct A { B b; }",
            ["B"] = "internal static class B { static C Next; }",
            ["C"] = "internal enum C { One } internal sealed class D : A { }",
            ["E"] = "internal sealed class E : A { } // F",
            ["F"] = "internal sealed class F : E { string Text = \"E\"; }",
        }));

    private static Dictionary<string, string> Sources(string folder)
    {
        string root = Path.Combine(Fixtures.Root, "src", folder);
        Dictionary<string, string> sources = [];
        foreach (string path in Directory.EnumerateFiles(root, "*.cs", SearchOption.AllDirectories))
        {
            string name = Path.GetFileNameWithoutExtension(path).Split('.')[0];
            name = SameAs.GetValueOrDefault(name, name);
            sources[name] = sources.GetValueOrDefault(name, "") + File.ReadAllText(path);
        }

        Assert.InRange(sources.Count, 2, int.MaxValue);
        return sources;
    }

    /// <summary>The files that are left when those that need no other, and those that no other needs, are taken away one by one.</summary>
    private static IEnumerable<string> Circles(Dictionary<string, string> sources)
    {
        Dictionary<string, string> code = sources.ToDictionary(
            s => s.Key, s => EnumMembers().Replace(Text().Replace(Comment().Replace(s.Value, ""), ""), "$1"));
        Dictionary<string, string> fileOf = [];
        foreach ((string file, string text) in code)
        {
            foreach (Match type in Declaration().Matches(text))
                fileOf[type.Groups[1].Value] = file;
        }

        Dictionary<string, HashSet<string>> needs = code.ToDictionary(
            c => c.Key,
            c => Word().Matches(c.Value).Select(w => fileOf.GetValueOrDefault(w.Value, c.Key)).Where(f => f != c.Key).ToHashSet());
        while (needs.Keys.FirstOrDefault(f => !needs[f].Overlaps(needs.Keys) || !needs.Values.Any(n => n.Contains(f))) is string free)
            needs.Remove(free);
        return needs.Keys.Order(StringComparer.Ordinal);
    }

    [GeneratedRegex("//.*")]
    private static partial Regex Comment();

    [GeneratedRegex("\"[^\"\n]*\"")]
    private static partial Regex Text();

    // A member may be called as the class that it stands for.
    [GeneratedRegex(@"\b(enum \w+\s*)\{[^}]*\}")]
    private static partial Regex EnumMembers();

    [GeneratedRegex(@"\b(?:class|(?:record )?struct|interface|enum|record) (\w+)")]
    private static partial Regex Declaration();

    // Not after a point: members may be called as types are.
    [GeneratedRegex(@"(?<![.\w])\w+")]
    private static partial Regex Word();
}
