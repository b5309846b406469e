using System.Text.RegularExpressions;

namespace KernelScope.Tests.Repository;

/// <summary>
/// What the formatter does not hold: a line of code has at most 140 characters, and the statement of an <c>if</c> or a loop stands on a line of
/// its own. It holds in the folders below, but for some files; the lists change until it is the whole tree.
/// </summary>
public partial class StyleTests
{
    private const int MaxColumns = 140;
    private const string ThreeQuotes = "\"\"\"";

    private static readonly string[] Folders =
    [
        "bench/", "kernels/", "src/KernelScope/", "src/KernelScope.Activations/", "src/KernelScope.Chat/", "src/KernelScope.Conformance/",
        "src/KernelScope.Demo/", "src/KernelScope.Diagnostics/", "src/KernelScope.Distributed/", "src/KernelScope.Emulated/",
        "src/KernelScope.Evaluation/", "src/KernelScope.Extensions/", "src/KernelScope.Hub/", "src/KernelScope.PtxEmulator/",
        "src/KernelScope.Runtime/", "src/KernelScope.Text/", "src/KernelScope.Web/", "src/Samples/", "tests/", "tools/",
    ];

    private static readonly string[] NotYet =
    [
        "bench/KernelScope.Bench/Cases/BatchCases.cs",
        "bench/KernelScope.Bench/Cases/LoadCases.cs",
        "bench/KernelScope.Bench/Cases/LongContextCases.cs",
        "bench/KernelScope.Bench/Cases/ModelCases.cs",
        "bench/KernelScope.Bench/Cases/PackedCases.cs",
        "bench/KernelScope.Bench/Cases/SaeCases.cs",
        "bench/KernelScope.Bench/Cases/TrainingCases.cs",
        "bench/KernelScope.Bench/Models/LoadChild.cs",
        "bench/KernelScope.Bench/Models/WeightsFolder.cs",
        "bench/KernelScope.Bench/Peers/TorchTraining.cs",
        "src/KernelScope.Conformance/ConformanceCase.cs",
        "src/KernelScope.Conformance/Trial.cs",
        "src/KernelScope.Emulated/EmulatedDriver.cs",
        "src/KernelScope.Evaluation/Dashboards/FeaturePages.cs",
        "src/KernelScope.Evaluation/Evaluation/SaeEvaluation.cs",
        "src/KernelScope.PtxEmulator/EmulatedGpu.cs",
        "src/KernelScope.PtxEmulator/Execution/BlockRunner.cs",
        "src/KernelScope.PtxEmulator/Execution/Ops/MatrixOps.cs",
        "tests/KernelScope.Cli.Tests/DerivedFileTests.cs",
        "tests/KernelScope.Cli.Tests/HelpTests.cs",
        "tests/KernelScope.Cli.Tests/ServeTests.cs",
        "tests/KernelScope.Cli.Tests/TrainTests.cs",
        "tests/KernelScope.Gpu.Tests/Cuda/AutoTests.cs",
        "tests/KernelScope.Gpu.Tests/Cuda/DriverErrorTests.cs",
        "tests/KernelScope.Gpu.Tests/Cuda/FailingDriver.cs",
        "tests/KernelScope.Gpu.Tests/Cuda/FaultTests.cs",
        "tests/KernelScope.Gpu.Tests/Cuda/PtxImageTests.cs",
        "tests/KernelScope.Gpu.Tests/Emulator/MatrixTests.cs",
        "tests/KernelScope.Tests/Bench/WeightsFolderTests.cs",
        "tests/KernelScope.Tests/Devices/ProfilingDeviceTests.cs",
        "tests/KernelScope.Tests/Files/CompactPanelTests.cs",
        "tests/KernelScope.Tests/Files/PanelSourceTests.cs",
        "tests/KernelScope.Tests/Files/PanelTests.cs",
        "tests/KernelScope.Tests/LayeringTests.cs",
        "tests/KernelScope.Tests/Model/OutputHeadTests.cs",
        "tests/KernelScope.Tests/Threads/LifetimeTests.cs",
        "tests/KernelScope.Training.Tests/GradientTests.cs",
        "tests/KernelScope.Training.Tests/Runs/RunMergeTests.cs",
        "tools/PtxCompiler/Emission.cs",
    ];

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
        where Folders.Any(folder => file.StartsWith(folder, StringComparison.Ordinal)) && !NotYet.Contains(file)
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
