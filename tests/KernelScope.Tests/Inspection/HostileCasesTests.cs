using System.Diagnostics;
using System.Text.Json;
using KernelScope.Cli.Inspection;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Inspection;

/// <summary>Verdicts on malformed files, decided by the format's own packages (safetensors, NumPy, sentencepiece, transformers) and the rules beside them.</summary>
public sealed class HostileCasesTests
{
    private const long AllocationLimit = 1 << 26;

    public static TheoryData<string, string, string> Cases()
    {
        var data = new TheoryData<string, string, string>();
        foreach (JsonElement row in HostileFiles.Cases())
            data.Add(row.GetProperty("file").GetString()!, row.GetProperty("expect").GetString()!, row.GetProperty("why").GetString()!);
        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Inspect_gives_the_verdict(string file, string expect, string why)
    {
        var watch = Stopwatch.StartNew();
        long before = GC.GetAllocatedBytesForCurrentThread();
        InspectionResult result = Inspector.Inspect(HostileFiles.Path(file), new InspectOptions { Statistics = true });
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < AllocationLimit, $"{file} took too much memory");
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10), $"{file} took {watch.Elapsed}");
        if (expect != "either")
            Assert.True(result.Ok == (expect == "ok"), $"{file} ({why}) should be {expect}: {result.Error}");
        if (!result.Ok)
            Sentences.Check(result.Error!, HostileFiles.Path(file));
        Assert.Equal(result.Ok, result.Error is null);
    }

    [Fact]
    public void All_cases_are_there() => Assert.Equal(330, Cases().Count);
}
