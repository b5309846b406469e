using KernelScope.Cpu;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Tests.Cpu;

/// <summary>The table of <see cref="ProductPlan"/>, line by line.</summary>
public class ProductPlanTests
{
    private static readonly CpuTraits Wide = new(16, 12, MultipliesBf16: false);
    private static readonly CpuTraits WideBf16 = new(16, 12, MultipliesBf16: true);
    private static readonly CpuTraits Narrow = new(8, 6, MultipliesBf16: false);

    private static readonly StoredForms[] Forms = [StoredForms.OutputsFirst, StoredForms.InputsFirst, StoredForms.InPanels];

    /// <summary>Where rounding and pairing the weights pays, and not one row before.</summary>
    [Theory]
    [InlineData(nameof(StoredForms.InPanels), DType.BF16, 16)]
    [InlineData(nameof(StoredForms.InPanels), DType.F32, 16)]
    [InlineData(nameof(StoredForms.OutputsFirst), DType.BF16, 16)]
    [InlineData(nameof(StoredForms.OutputsFirst), DType.F32, 48)]
    [InlineData(nameof(StoredForms.InputsFirst), DType.BF16, 96)]
    [InlineData(nameof(StoredForms.InputsFirst), DType.F32, 128)]
    public void Fast_with_many_rows_takes_pairs_of_bfloat16_where_the_processor_multiplies_them(string stored, DType type, int below)
    {
        StoredForms form = Enum.Parse<StoredForms>(stored);
        AssertKernel(ProductKernel.Bf16Tiles, below + 1, 768, form, type, WideBf16, Precision.Fast);
        for (int rows = 1; rows <= 768; rows++)
        {
            Assert.Equal(Kernel(rows, form, type, Wide), Kernel(rows, form, type, WideBf16));
            Assert.Equal(Kernel(rows, form, type, Wide), Kernel(rows, form, type, Wide, Precision.Fast));
            if (rows <= below)
                Assert.Equal(Kernel(rows, form, type, WideBf16), Kernel(rows, form, type, WideBf16, Precision.Fast));
        }
    }

    [Theory]
    [InlineData(DType.F32, 32, 32)]
    [InlineData(DType.BF16, 32, 32)]
    [InlineData(DType.F16, 32, 4)]
    public void Few_rows_read_panels_as_a_stream(DType type, int wide, int narrow)
    {
        AssertKernel(ProductKernel.PanelDot, 1, wide, StoredForms.InPanels, type, Wide);
        Assert.Equal(ProductKernel.Tiles, Kernel(wide + 1, StoredForms.InPanels, type, Wide));
        AssertKernel(ProductKernel.PanelDot, 1, narrow, StoredForms.InPanels, type, Narrow);
        Assert.Equal(ProductKernel.Tiles, Kernel(narrow + 1, StoredForms.InPanels, type, Narrow));
    }

    [Fact]
    public void Few_rows_transpose_rows_of_outputs_on_the_way()
    {
        foreach (CpuTraits cpu in (CpuTraits[])[Wide, Narrow])
        {
            AssertKernel(ProductKernel.Transpose, 1, 32, StoredForms.OutputsFirst, DType.BF16, cpu);
            Assert.Equal(ProductKernel.Tiles, Kernel(33, StoredForms.OutputsFirst, DType.BF16, cpu));
        }
    }

    [Fact]
    public void One_row_adds_up_rows_of_inputs() => Assert.Equal(ProductKernel.Axpy, Kernel(1, StoredForms.InputsFirst, DType.F32, Wide));

    [Fact]
    public void Few_rows_take_strips_of_rows_of_inputs()
    {
        AssertKernel(ProductKernel.Strip, 2, 16, StoredForms.InputsFirst, DType.F32, Wide);
        AssertKernel(ProductKernel.Strip, 2, 32, StoredForms.InputsFirst, DType.F32, Narrow);
        Assert.Equal(ProductKernel.Tiles, Kernel(33, StoredForms.InputsFirst, DType.F32, Narrow));
    }

    [Fact]
    public void Tens_of_rows_copy_wide_weights_ahead()
    {
        AssertKernel(ProductKernel.CopyAhead, 17, 192, StoredForms.InputsFirst, DType.F32, Wide);
        Assert.Equal(ProductKernel.Tiles, Kernel(193, StoredForms.InputsFirst, DType.F32, Wide));
        Assert.Equal(ProductKernel.Tiles, Kernel(17, StoredForms.InputsFirst, DType.F32, Wide, outputs: 4095));
        Assert.Equal(ProductKernel.Tiles, Kernel(33, StoredForms.OutputsFirst, DType.F32, Wide));
    }

    /// <summary>Matrices of several forms: those that want x as it is or those that want it packed, never both.</summary>
    [Fact]
    public void Matrices_of_one_weight_agree_on_how_x_is_read()
    {
        var mixed = new WeightTraits(2304, 8192, 2, StoredForms.OutputsFirst | StoredForms.InputsFirst, AnyFloat16: false);
        for (int rows = 1; rows <= 800; rows++)
        {
            var plan = ProductPlan.Choose(rows, mixed, Precision.Exact, Wide);
            ProductKernel[] kernels = [.. Forms.Select(form => plan[form])];
            Assert.Equal(rows > 16, plan.PackedRows > 0);
            Assert.All(kernels, kernel => Assert.Equal(rows > 16, kernel == ProductKernel.Tiles));
        }
    }

    [Fact]
    public void A_weight_says_which_kernels_it_has()
    {
        Assert.Equal(
            "Axpy 1, Strip 2 to 16, CopyAhead 17 to 192, Tiles from 193 rows",
            ProductPlan.Describe(Traits(StoredForms.InputsFirst, DType.F32, 16384), Precision.Exact, Wide));
        Assert.Equal(
            "PanelDot 1 to 16, Bf16Tiles from 17 rows",
            ProductPlan.Describe(Traits(StoredForms.InPanels, DType.BF16, 16384), Precision.Fast, WideBf16));
    }

    private static void AssertKernel(
        ProductKernel kernel, int from, int to, StoredForms form, DType type, CpuTraits cpu, Precision precision = Precision.Exact) =>
        Assert.All(Enumerable.Range(from, to - from + 1), rows => Assert.Equal(kernel, Kernel(rows, form, type, cpu, precision)));

    private static ProductKernel Kernel(
        int rows, StoredForms form, DType type, CpuTraits cpu, Precision precision = Precision.Exact, int outputs = 16384) =>
        ProductPlan.Choose(rows, Traits(form, type, outputs), precision, cpu)[form];

    private static WeightTraits Traits(StoredForms form, DType type, int outputs) =>
        new(2304, outputs, type.ByteSize(), form, type == DType.F16);
}
