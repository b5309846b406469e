using ILGPU;
using KernelScope.Kernels;
using KernelScope.PtxCompiler;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>The committed PTX is what the source gives, and what may not be shipped is refused.</summary>
public sealed class PtxCompilerTests
{
    public static TheoryData<string, string> BadKernels => new()
    {
        { nameof(Bad.ApproximateTanh), "approximate" },
        { nameof(Bad.ApproximateSine), "approximate" },
        { nameof(Bad.UndefinedFunction), "FusedMultiplyAdd" },
        { nameof(Bad.FloatAtomic), "order of blocks" },
        { nameof(Bad.Double), "float64" },
        { nameof(Bad.LocalArray), "local memory" },
    };

    [Fact]
    public void The_committed_ptx_is_what_the_source_gives()
    {
        Emission emission = Emission.Create(Catalog.All, Emission.HashSources(Path.Combine(Repository.Root, "kernels")));
        Assert.Empty(emission.Differences(Repository.PtxFolder));
    }

    [Fact]
    public void A_changed_file_is_named_with_the_line_that_differs()
    {
        KernelEntry kernel = Catalog.All.Single(k => k.Name == "copy");
        Emission emission = Emission.Create([kernel], "hash");
        string folder = Directory.CreateTempSubdirectory("ptx").FullName;
        try
        {
            emission.Write(folder);
            Assert.Empty(emission.Differences(folder));
            string file = Path.Combine(folder, "sm_80", "elementwise.ptx");
            File.WriteAllText(file, File.ReadAllText(file).Replace("st.global.f32", "st.global.cg.f32", StringComparison.Ordinal));
            File.WriteAllText(Path.Combine(folder, "old.ptx"), "");
            IReadOnlyList<string> differences = emission.Differences(folder);
            Assert.Contains(differences, d => d.StartsWith("sm_80/elementwise.ptx, line ", StringComparison.Ordinal)
                && d.Contains("st.global.cg.f32", StringComparison.Ordinal));
            Assert.Contains(differences, d => d.StartsWith("old.ptx", StringComparison.Ordinal));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void The_order_of_compilation_does_not_show_in_the_text()
    {
        KernelEntry[] kernels = [.. Catalog.All.Where(k => k.Family is "rope" or "top_k")];
        IReadOnlyDictionary<string, string> forth = Emission.Create(kernels, "").Files;
        using var compiler = new KernelCompiler();
        foreach (KernelEntry kernel in kernels.Reverse())
        {
            string text = PtxText.Normalize(compiler.Compile(kernel, GpuTarget.Sm80), kernel.Name);
            Assert.Contains(text, forth[$"sm_80/{kernel.Family}.ptx"], StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(BadKernels))]
    public void What_may_not_be_shipped_is_refused(string method, string reason)
    {
        var kernel = new KernelEntry(method, "bad", typeof(Bad).GetMethod(method)!, 32, GpuTarget.Sm80, "1");
        var refusal = Assert.Throws<InvalidOperationException>(() => Emission.Create([kernel], ""));
        Assert.Contains(method, refusal.Message, StringComparison.Ordinal);
        Assert.Contains(reason, refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Ampere_instructions_are_refused_on_turing()
    {
        KernelEntry kernel = Catalog.All.Single(k => k.Name == "gemm_tensor_bf16_fast") with { MinTarget = GpuTarget.Sm75 };
        var refusal = Assert.Throws<InvalidOperationException>(() => Emission.Create([kernel], ""));
        Assert.Contains("needs sm_80", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_manifest_says_of_every_kernel_what_its_ptx_says()
    {
        foreach (string target in new[] { "sm_75", "sm_80" })
        {
            foreach (string file in Directory.EnumerateFiles(Path.Combine(Repository.PtxFolder, target)))
            {
                PtxModule module = PtxModule.Parse(File.ReadAllText(file), Path.GetFileName(file));
                Assert.Equal(target, module.Target);
                foreach (PtxKernel kernel in module.Kernels)
                    AssertManifest(kernel, target, Path.GetFileName(file));
            }
        }

        Assert.Equal(Catalog.All.Length, Catalog.All.Select(k => k.Name).Distinct().Count());
    }

    private static void AssertManifest(PtxKernel kernel, string target, string file)
    {
        using var json = System.Text.Json.JsonDocument.Parse(File.ReadAllText(Path.Combine(Repository.PtxFolder, "manifest.json")));
        var entry = json.RootElement.GetProperty("kernels").EnumerateArray().Single(k => k.GetProperty("name").GetString() == kernel.Name);
        Assert.Contains(entry.GetProperty("code").EnumerateArray(), c => c.GetProperty("target").GetString() == target
            && c.GetProperty("file").GetString() == $"{target}/{file}");
        Assert.Equal(kernel.StaticSharedBytes, entry.GetProperty("shared_bytes").GetInt32());
        Assert.Equal(kernel.MaxThreads!.Value.X, entry.GetProperty("group_size").GetInt32());
        Assert.Equal(
            kernel.Parameters.Select(p => (p.Name["p_".Length..], p.Offset, p.Size)),
            entry.GetProperty("parameters").EnumerateArray()
            .Select(p => (p.GetProperty("name").GetString()!, p.GetProperty("offset").GetInt32(), p.GetProperty("size").GetInt32())));
        Assert.Equal(0, kernel.LocalBytes);
        Assert.True(kernel.StaticSharedBytes <= 48 * 1024);
    }

    /// <summary>Kernels with one sin each.</summary>
    public static class Bad
    {
        public static void ApproximateTanh(ArrayView<float> x) => x[Group.IdxX] = MathF.Tanh(x[Group.IdxX]);

        public static void ApproximateSine(ArrayView<float> x) => x[Group.IdxX] = MathF.Sin(x[Group.IdxX]);

        public static void UndefinedFunction(ArrayView<float> x) => x[Group.IdxX] = MathF.FusedMultiplyAdd(x[0], x[1], x[2]);

        public static void FloatAtomic(ArrayView<float> x) => Atomic.Add(ref x[0], 1f);

        public static void Double(ArrayView<float> x) => x[Group.IdxX] = (float)(x[Group.IdxX] * 0.1);

        public static void LocalArray(ArrayView<float> x, int n)
        {
            float[] values = new float[4];
            for (int i = 0; i < 4; i++)
                values[i] = x[i];
            x[0] = values[n];
        }
    }
}
