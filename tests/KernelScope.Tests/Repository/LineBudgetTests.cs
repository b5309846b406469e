namespace KernelScope.Tests.Repository;

/// <summary>
/// How much there is to read. A line counts if it is neither blank nor only a comment.
/// <para>
/// The reading core is what one reads to follow a token through Gemma 2 and an SAE: the files of these folders themselves. What a token does not
/// need lies one folder deeper: how files become weights (Loading), whose turn it is (Calls, Lifetime), what implementers of a device share
/// (Implementing), gradients (Training), other projects' names of hook points (Names). Those count to the core's budget, not to this one.
/// </para>
/// </summary>
public class LineBudgetTests
{
    private const int CoreBudget = 8_000;
    private const int ReadingBudget = 3_000;

    /// <summary>The forward pass, the seam and its definition in double, hooks, the SAE, an edit, and the loop that generates.</summary>
    private static readonly string[] ReadingFolders =
    [
        "src/KernelScope/Model/", "src/KernelScope/Devices/", "src/KernelScope/Devices/Reference/", "src/KernelScope/Hooks/",
        "src/KernelScope.Text/Generation/",
    ];

    private static readonly string[] ReadingFiles = ["src/KernelScope/Sae/JumpReluSae.cs", "src/KernelScope/Sae/SaeSplice.cs"];

    /// <summary>The steps of the path: whichever is moved into a deeper folder, the reader must be told where to.</summary>
    private static readonly string[] Steps =
    [
        "Model/Gemma2Model.cs", "Model/Gemma2Weights.cs", "Model/Session.cs", "Model/ForwardCall.cs", "Model/KvCache.cs",
        "Model/RopeTable.cs",
        "Devices/Device.cs", "Devices/Mat.cs", "Devices/Weight.cs", "Devices/SparseCodes.cs", "Devices/Reference/ReferenceDevice.cs",
        "Hooks/HookPoint.cs", "Hooks/HookSet.cs",
    ];

    [Fact]
    public void The_core_keeps_its_budget() => Assert.InRange(CodeLines("src/KernelScope/"), 4_000, CoreBudget - 1);

    [Fact]
    public void The_reading_core_keeps_its_budget() =>
        Assert.InRange(ReadingFolders.Sum(folder => CodeLines(Itself(folder))) + ReadingFiles.Sum(CodeLines), 2_000, ReadingBudget - 1);

    /// <summary>Otherwise a folder that was moved would count as nothing.</summary>
    [Fact]
    public void Every_part_of_the_reading_core_is_there()
    {
        Assert.All(ReadingFolders, folder => Assert.True(CodeLines(Itself(folder)) > 50, folder));
        Assert.All(ReadingFiles.Concat(Steps.Select(step => "src/KernelScope/" + step)), file => Assert.True(CodeLines(file) > 20, file));
    }

    [Theory]
    [InlineData("int x = 1; // one", 1)]
    [InlineData("", 0)]
    [InlineData("   \t", 0)]
    [InlineData("    // int x;", 0)]
    [InlineData("/// <summary>It.</summary>", 0)]
    [InlineData("/* one\n two */\nint x;\n}", 2)]
    public void A_line_counts_if_it_holds_code(string text, int expected) => Assert.Equal(expected, CodeLinesOf(text.Split('\n')));

    private static int CodeLines(string part) => CodeLines(RepositoryFiles.All(".cs")
        .Where(file => file.StartsWith(part, StringComparison.Ordinal)));

    /// <summary>The files of a folder, without those of folders in it.</summary>
    private static IEnumerable<string> Itself(string folder) => RepositoryFiles.All(".cs")
        .Where(file => file.StartsWith(folder, StringComparison.Ordinal) && !file[folder.Length..].Contains('/'));

    private static int CodeLines(IEnumerable<string> files) =>
        files.Sum(file => CodeLinesOf(File.ReadLines(Path.Combine(Fixtures.Root, file))));

    private static int CodeLinesOf(IEnumerable<string> lines)
    {
        int count = 0;
        bool inComment = false;
        foreach (string line in lines.Select(line => line.Trim()))
        {
            bool begins = !inComment && line.StartsWith("/*", StringComparison.Ordinal);
            if (!inComment && !begins && line.Length > 0 && !line.StartsWith("//", StringComparison.Ordinal))
                count++;
            inComment = (inComment || begins) && !line.EndsWith("*/", StringComparison.Ordinal);
        }

        return count;
    }
}
