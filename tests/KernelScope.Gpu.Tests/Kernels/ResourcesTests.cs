using System.Globalization;
using System.Text.Json;
using KernelScope.Kernels;
using KernelScope.PtxCompiler;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>
/// What is read out of an assembler's and a disassembler's answers, and what is committed of it. The assembler itself runs in
/// tools/check-ptxas.sh.
/// </summary>
public sealed class ResourcesTests
{
    /// <summary>
    /// An inner loop with a load, and the main one: three loads of 16 bytes, then an instruction that reads a register of the second, then
    /// one more load.
    /// </summary>
    private const string Listing = """
        	.section	.text.first,"ax",@progbits
        .L_x_0:
                /*0010*/                   LDG.E R2, [R4.64] ;
                /*0020*/               @P0 BRA `(.L_x_0) ;
        .L_x_1:
                /*0100*/              @!P1 LDG.E.128.CONSTANT R8, [R4.64] ;
                /*0110*/                   LDG.E.128 R12, desc[UR6][R4.64+0x10] ;
                /*0120*/                   LDG.E.64 R20, [R4.64+0x80] ;
                /*0130*/                   LDGSTS.E.BYPASS.128 [R3], [R4.64] ;
                /*0140*/                   FFMA R1, R6, R15, R1 ;
                /*0150*/                   LDG.E.128 R24, [R4.64+0x20] ;
                /*0160*/              @!P0 BRA `(.L_x_1) ;
                /*0170*/                   EXIT ;
        	.section	.text.second,"ax",@progbits
                /*0010*/                   EXIT ;
        """;

    [Fact]
    public void Loads_are_counted_up_to_the_first_that_is_read()
    {
        IReadOnlyDictionary<string, int?> loads = Disassembly.LoadsBeforeFirstUse(Listing);
        Assert.Equal(3, loads["first"]);
        Assert.Null(loads["second"]);
    }

    [Theory]
    [InlineData(90, 40, 0, 128, 12)]
    [InlineData(90, 130, 49_152, 256, 1)]
    [InlineData(90, 128, 49_152, 256, 2)]
    [InlineData(86, 80, 49_152, 256, 2)]
    [InlineData(75, 24, 0, 128, 8)]
    public void Blocks_of_a_multiprocessor_are_the_least_of_its_limits(int architecture, int registers, int shared, int threads,
        int blocks) =>
        Assert.Equal(blocks, Resources.BlocksPerMultiprocessor(architecture, registers, shared, threads));

    /// <summary>A floor that holds nowhere, and a product of few rows with wide loads that has none, would let loads go unseen.</summary>
    [Fact]
    public void Floors_hold_where_their_kernels_are_loaded_and_no_product_lacks_one()
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(Path.Combine(Repository.PtxFolder, Resources.FileName)));
        JsonElement kernels = document.RootElement.GetProperty("kernels"), floors = document.RootElement.GetProperty("floor");
        foreach (JsonProperty floor in floors.EnumerateObject())
        {
            (int Architecture, JsonElement Numbers)[] all = [.. kernels.GetProperty(floor.Name).EnumerateObject()
                .Select(a => (int.Parse(a.Name.AsSpan("sm_".Length), CultureInfo.InvariantCulture), a.Value))];
            JsonElement[] held = [.. all.Where(a => Resources.HasFloors(a.Architecture, all.Select(o => o.Architecture)))
                .Select(a => a.Numbers)];
            Assert.NotEmpty(held);
            foreach (JsonProperty least in floor.Value.EnumerateObject())
                Assert.All(held, n => Assert.True(n.GetProperty(least.Name).GetInt32() >= least.Value.GetInt32(), floor.Name));
        }

        Assert.All(kernels.EnumerateObject().Select(k => k.Name).Where(n => n.Contains("gemv", StringComparison.Ordinal)
            && !n.Contains("plain", StringComparison.Ordinal)), n => Assert.True(floors.TryGetProperty(n, out _), n));
    }

    [Fact]
    public void Every_kernel_is_committed_and_the_bar_of_spills_is_kept_but_where_it_says_otherwise()
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(Path.Combine(Repository.PtxFolder, Resources.FileName)));
        JsonElement kernels = document.RootElement.GetProperty("kernels"), above = document.RootElement.GetProperty("spills_above_the_bar");
        Assert.Equal(Catalog.All.Select(k => k.Name).Order(StringComparer.Ordinal), kernels.EnumerateObject().Select(k => k.Name));
        foreach (JsonProperty kernel in kernels.EnumerateObject())
        {
            foreach (JsonProperty architecture in kernel.Value.EnumerateObject())
            {
                bool kept = architecture.Value.GetProperty("spill_stores").GetInt32() <= Resources.MostSpillStores
                    && architecture.Value.GetProperty("spill_loads").GetInt32() <= Resources.MostSpillLoads;
                Assert.True(kept || above.TryGetProperty(kernel.Name, out _), $"{kernel.Name} on {architecture.Name}");
            }
        }

        // On tensor cores: two blocks on a multiprocessor; nothing is spilled in the loops of products, because nothing is.
        foreach (JsonProperty kernel in kernels.EnumerateObject().Where(k => k.Name.Contains("_tensor_", StringComparison.Ordinal)))
        {
            Assert.InRange(kernel.Value.GetProperty("sm_90").GetProperty("blocks_per_sm").GetInt32(), 2, 32);
            if (!kernel.Name.StartsWith("attend_", StringComparison.Ordinal))
                Assert.All(kernel.Value.EnumerateObject(), a => Assert.Equal(0, a.Value.GetProperty("spill_loads").GetInt32()));
        }
    }
}
