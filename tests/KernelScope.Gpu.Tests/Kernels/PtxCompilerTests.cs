using System.Reflection;
using System.Text.Json.Nodes;
using ILGPU;
using KernelScope.Cuda.Launching;
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
        Assert.Null(Emission.Difference(Path.Combine(Repository.Root, Launchers.FilePath), emission.Launchers));
    }

    [Fact]
    public void Launchers_take_the_parameters_of_the_manifest_and_no_others()
    {
        string manifest = File.ReadAllText(Path.Combine(Repository.PtxFolder, "manifest.json"));
        using var json = System.Text.Json.JsonDocument.Parse(manifest);
        var kernels = json.RootElement.GetProperty("kernels").EnumerateArray().ToDictionary(k => k.GetProperty("name").GetString()!);
        // The method that chooses is named as the kernel is, without what it chooses by.
        var named = new Dictionary<string, string>
        {
            ["Copy"] = "copy",
            ["AttendTile"] = "attend_bf16_tile_128",
            ["GemvRope"] = "gemv_rope_bf16_f16",
            ["SaeEncode"] = "sae_encode_f32_8rows",
            ["GatedGemmTensor"] = "gated_gemm_tensor_bf16_fast",
            ["Top1Write"] = "top_1_write",
            ["CodesGather"] = "codes_gather",
            ["PeakMma"] = "peak_mma",
        };
        foreach ((string choice, string name) in named)
        {
            MethodInfo launch = typeof(KernelTable).GetMethod(choice)!.ReturnType.GetMethod("Launch")!;
            var expected = kernels[name].GetProperty("parameters").EnumerateArray().Select(p => (p.GetProperty("name").GetString(),
                p.GetProperty("type").GetString()!.EndsWith("[]", StringComparison.Ordinal)));
            Assert.Equal(expected, launch.GetParameters().Skip(2).Select(p => (p.Name, p.ParameterType.IsGenericType)));
        }

        Assert.Equal(kernels.Keys.Order(), ((string[])typeof(KernelTable).GetField("Names", BindingFlags.NonPublic | BindingFlags.Static)!
            .GetValue(null)!).Order());
    }

    [Fact]
    public void A_manifest_that_lacks_a_form_or_names_a_parameter_in_two_ways_gives_no_launchers()
    {
        string manifest = File.ReadAllText(Path.Combine(Repository.PtxFolder, "manifest.json"));
        JsonNode lacking = JsonNode.Parse(manifest)!, renamed = JsonNode.Parse(manifest)!, longer = JsonNode.Parse(manifest)!;
        lacking["kernels"]!.AsArray().RemoveAt(IndexOf(lacking, "gemv_f16_4rows"));
        Parameter(renamed, "embed_f16", "scale")["name"] = "factor";
        Parameter(longer, "copy", "columns")["type"] = "i64";
        Assert.Contains("gemv", Refusal(lacking), StringComparison.Ordinal);
        Assert.Contains("embed", Refusal(renamed), StringComparison.Ordinal);
        Assert.Contains("long columns", Launchers.Write(longer.ToJsonString()), StringComparison.Ordinal);

        string Refusal(JsonNode changed) =>
            Assert.Throws<InvalidOperationException>(() => Launchers.Write(changed.ToJsonString())).Message;
        int IndexOf(JsonNode from, string kernel) =>
            from["kernels"]!.AsArray().Select((k, i) => (Name: (string)k!["name"]!, i)).First(k => k.Name == kernel).i;
        JsonNode Parameter(JsonNode from, string kernel, string name) =>
            from["kernels"]![IndexOf(from, kernel)]!["parameters"]!.AsArray().First(p => (string)p!["name"]! == name)!;
    }

    [Fact]
    public void Only_generated_launchers_give_launches_their_parameters()
    {
        HashSet<string> pushing = [];
        foreach (Type type in typeof(KernelTable).Assembly.GetTypes())
        {
            const BindingFlags All = BindingFlags.DeclaredOnly | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance
                | BindingFlags.Static;
            foreach (MethodInfo method in type.GetMethods(All).Where(m => m.GetMethodBody() is not null && type != typeof(LaunchQueue)))
            {
                if (Calls(method).Any(c => c.DeclaringType == typeof(LaunchQueue) && c.Name is "Begin" or "Add" or "End"))
                    pushing.Add(type.Name);
            }
        }

        // All that the table gives, and nothing else: no op of the device.
        var given = typeof(KernelTable).GetMethods().Where(m => m.ReturnType.GetMethod("Launch") is not null)
            .Select(m => m.ReturnType.Name).ToHashSet();
        Assert.True(given.Count > 30);
        Assert.Equal(given.Order(), pushing.Order());
    }

    /// <summary>What a method calls.</summary>
    private static IEnumerable<MethodBase> Calls(MethodInfo method)
    {
        byte[] code = method.GetMethodBody()!.GetILAsByteArray()!;
        for (int i = 0; i + 5 <= code.Length; i++)
        {
            // call, callvirt; what only looks like one is not a method of the queue.
            if (code[i] is 0x28 or 0x6F && Resolved(BitConverter.ToInt32(code, i + 1)) is MethodBase called)
                yield return called;
        }

        MethodBase? Resolved(int token)
        {
            try
            {
                return method.Module.ResolveMethod(token, method.DeclaringType!.GetGenericArguments(), method.GetGenericArguments());
            }
            catch (Exception e) when (e is ArgumentException or BadImageFormatException)
            {
                return null;
            }
        }
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
            string text = PtxText.WithGridWait(PtxText.Normalize(compiler.Compile(kernel, GpuTarget.Sm80), kernel.Name));
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
