using System.Text.RegularExpressions;
using KernelScope.Kernels;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>
/// Every kernel of the manifest, from its shipped PTX: the bytes that it moves, how its warps read and write memory, and what meets in its
/// shared memory, held against its header and
/// kernels/README.md.
/// </summary>
public sealed partial class KernelClaimTests
{
    /// <summary>Kernels that may touch more sectors than their bytes fill, and the sentence of the header that says so.</summary>
    private static readonly (string Kernels, string Sentence)[] Uncoalesced =
    [
        ("^(gated_)?gemv_(ring_(split_)?)?(bf16|f16)(_|$)|^gemv_(norm_|rope_(bf16_)?)b?f16$|^sae_encode_(bf16|f16)_",
            "each touches every sector of the L1 cache for half of it"),
        ("^(gated_)?gemv_f32_[48]rows$",
            "The results of a group are one or two values in each row: a store touches a sector for every row."),
        ("^(gated_)?gemm_fma_", "each store touches every sector of its 256 bytes for a quarter of it"),
        ("^(gated_)?gemm_tensor_|^attend_(bf16_)?tensor_", "each store touches sectors for half of them"),
        ("^sae_encode_tile_", "each load touches every sector of its 256 bytes for a quarter of it"),
        ("^attend_(rows_)?merge$|^attend_(bf16_)?wide_whole_",
            "In the merge, the largest and the sum of a part lie a part apart from thread to thread: a sector for each."),
        ("^top_k_write$", "The values of a list are gathered from all over their row: a sector for each."),
    ];

    public static TheoryData<LabKind, string> Kernels => Of(_ => true);

    public static TheoryData<LabKind, string> Products =>
        Of(k => k.Name.Contains("gemm", StringComparison.Ordinal) || k.Name.StartsWith("sae_encode_t", StringComparison.Ordinal)
            || k.Name.StartsWith("attend_tensor", StringComparison.Ordinal)
            || k.Name.StartsWith("attend_bf16_tensor", StringComparison.Ordinal));

    [Theory]
    [MemberData(nameof(Kernels))]
    public void A_kernel_moves_the_bytes_that_the_readme_claims_and_no_more(LabKind kind, string kernel)
    {
        using KernelLab lab = KernelLab.Create(kind);
        Claim claim = KernelClaims.Of(lab, kernel);
        // Small operands (ids, starts of lists) fill sectors in part: one more for each view. A claim far above what is moved would say
        // nothing.
        int views = Catalog.All.Single(k => k.Name == kernel).Method.GetParameters().Count(p => p.ParameterType.IsGenericType);
        Assert.InRange(claim.Result.ReadFootprint + claim.Result.WriteFootprint, 0.95 * claim.Memory, claim.Memory + (32 * views));
        Assert.InRange(claim.Result.Instructions.Sum(i => Requested(i.GlobalLoad) + Requested(i.GlobalStore)), 0.95 * claim.Requested,
            claim.Requested);
    }

    [Theory]
    [MemberData(nameof(Kernels))]
    public void Access_that_is_not_coalesced_is_owned_up_to_in_the_header(LabKind kind, string kernel)
    {
        using KernelLab lab = KernelLab.Create(kind);
        InstructionCount[] scattered =
            [.. KernelClaims.Of(lab, kernel).Result.Instructions.Where(i => IsScattered(i.GlobalLoad) || IsScattered(i.GlobalStore))];
        string[] sentences = [.. Uncoalesced.Where(u => Regex.IsMatch(kernel, u.Kernels)).Select(u => u.Sentence)];
        if (scattered.Length == 0)
        {
            Assert.True(sentences.Length == 0,
                $"{kernel} reads and writes whole sectors; its header says otherwise: {string.Join(' ', sentences)}");
            return;
        }

        Assert.True(sentences.Length > 0,
            $"{kernel} is not coalesced, and its header does not say so: "
                + $"{string.Join("; ", scattered.Select(i => $"line {i.Line}: {i.Text}"))}");
        string header = Header(kernel);
        foreach (string sentence in sentences)
            Assert.Contains(sentence, header, StringComparison.Ordinal);
    }

    /// <summary>
    /// The main loop: everything before the results are written. The encoders' lists pass through shared memory behind it, in other ways.
    /// </summary>
    [Theory]
    [MemberData(nameof(Products))]
    public void The_main_loop_of_a_product_has_no_bank_conflicts(LabKind kind, string kernel)
    {
        using KernelLab lab = KernelLab.Create(kind);
        IReadOnlyList<InstructionCount> instructions = KernelClaims.Of(lab, kernel).Result.Instructions;
        int end = kernel.StartsWith("sae_encode_tile_", StringComparison.Ordinal)
            ? instructions.Last(i => i.Text.StartsWith("fma.rn.f32", StringComparison.Ordinal)).Line
            : kernel.StartsWith("sae_encode_", StringComparison.Ordinal)
            ? instructions.Last(i => i.Text.StartsWith("mma.sync", StringComparison.Ordinal)).Line : int.MaxValue;
        InstructionCount[] loop = [.. instructions.Where(i => i.Line <= end)];
        Assert.True(loop.Sum(i => i.SharedLoad.Wavefronts + i.SharedStore.Wavefronts) > 0, "The loop goes through shared memory.");
        Assert.All(loop,
            i => Assert.True(i.SharedLoad.ExtraWavefronts + i.SharedStore.ExtraWavefronts == 0, $"{kernel}, line {i.Line}: {i.Text}"));
    }

    [Fact]
    public void The_peak_kernels_do_the_products_that_they_are_counted_for()
    {
        using KernelLab lab = KernelLab.Create(LabKind.Sm80);
        LabBuffer y = lab.EmptyFloats(512);
        LaunchResult fma = lab.Run("peak_fma", new Dim3(2), y, 0.5f, 0.25f, 3)!;
        Assert.Equal(512 * 3 * 128, fma.Instructions.Where(i => i.Text.StartsWith("fma.rn.f32", StringComparison.Ordinal))
            .Sum(i => i.ThreadExecutions));
        // x ← x/2 + 1/4, 48 times, from 0 … 7 on: 1/2, eight times.
        Assert.All(lab.ReadFloats(y), v => Assert.Equal(4f, v));
        LaunchResult mma = lab.Run("peak_mma", new Dim3(2), y, 0x3F803F80, 3)!;
        Assert.Equal(16 * 3 * 32, mma.Instructions.Where(i => i.Text.StartsWith("mma.sync", StringComparison.Ordinal))
            .Sum(i => i.WarpExecutions));
        // 12 products of rows and columns of 16 ones for each of a lane's 4 · 8 elements.
        Assert.All(lab.ReadFloats(y), v => Assert.Equal(12f * 16 * 32, v));
    }

    private static TheoryData<LabKind, string> Of(Func<KernelEntry, bool> chosen)
    {
        var data = new TheoryData<LabKind, string>();
        foreach (KernelEntry kernel in Catalog.All.Where(chosen))
        {
            if (kernel.MaxTarget == GpuTarget.Sm80)
                data.Add(LabKind.Sm80, kernel.Name);
            if (kernel.MinTarget == GpuTarget.Sm75)
                data.Add(LabKind.Sm75, kernel.Name);
        }

        return data;
    }

    /// <summary>A warp that asks for a single value counts it; all else is counted in whole sectors.</summary>
    private static double Requested(GlobalTraffic t) => t.UsefulBytes <= 8 * t.Requests ? t.UsefulBytes : t.MovedBytes;

    /// <summary>
    /// Whether the requests touch more sectors than their bytes fill; a run that begins within a sector may touch one more.
    /// </summary>
    private static bool IsScattered(GlobalTraffic t) =>
        t.Requests > 0 && t.Sectors > t.Requests * (Math.Ceiling((double)t.UsefulBytes / t.Requests / 32) + 1);

    /// <summary>The comments above the class that holds the kernel, as one line.</summary>
    private static string Header(string kernel)
    {
        string file =
            Path.Combine(Repository.Root, "kernels", Catalog.All.Single(k => k.Name == kernel).Method.DeclaringType!.Name + ".cs");
        string text = File.ReadAllText(file);
        return Spaces()
            .Replace(text[..text.IndexOf("public static class", StringComparison.Ordinal)].Replace("///", " ", StringComparison.Ordinal),
                " ");
    }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces();
}
