using KernelScope.Cpu.MachineCode;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu;

/// <summary>What the choice of a kernel depends on in a weight. It may be several matrices.</summary>
/// <param name="Inputs">Number of inputs.</param>
/// <param name="Outputs">Number of outputs of all matrices.</param>
/// <param name="ElementBytes">Bytes of an element; of several types the largest.</param>
/// <param name="Forms">How the matrices are stored.</param>
/// <param name="AnyFloat16">Whether a matrix is float16, which takes many instructions to widen.</param>
internal readonly record struct WeightTraits(int Inputs, int Outputs, int ElementBytes, StoredForms Forms, bool AnyFloat16)
{
    /// <summary>Whether a matrix is stored [in, out].</summary>
    public bool AnyInputsFirst => (Forms & StoredForms.InputsFirst) != 0;

    /// <summary>Those of a weight of one or more matrices.</summary>
    public static WeightTraits From(ReadOnlySpan<StoredMatrix> matrices, int inputs, int outputs)
    {
        int bytes = 0;
        bool anyFloat16 = false;
        StoredForms forms = StoredForms.None;
        foreach (StoredMatrix matrix in matrices)
        {
            bytes = Math.Max(bytes, matrix.DType.ByteSize());
            forms |= matrix.Form;
            anyFloat16 |= matrix.DType == DType.F16;
        }

        return new WeightTraits(inputs, outputs, bytes, forms, anyFloat16);
    }
}

/// <summary>What the choice of a kernel depends on in a processor.</summary>
/// <param name="Lanes">float32 values in a vector: 4, 8 or 16.</param>
/// <param name="TileRows">Rows of the register tile.</param>
/// <param name="MultipliesBf16">Whether <c>vdpbf16ps</c> is there.</param>
internal readonly record struct CpuTraits(int Lanes, int TileRows, bool MultipliesBf16);

/// <summary>Which kernel multiplies, and in which portions: chosen once, when a weight meets a number of rows.</summary>
/// <remarks>
/// The first line that fits is taken. "pairs" are the rows from which <c>vdpbf16ps</c>, whose blocks of weights must be rounded and paired first, is faster than the float32 kernel of as many rows:
/// 17 of panels and of two-byte types stored [out, in], 49 of wider types, 97 and 129 where a matrix is stored [in, out]. "few" is 16, and 32 where all matrices are stored [out, in], all are panels, or
/// all are stored [in, out] and a vector has fewer than 16 lanes; but 4 where all are float16 panels and a vector has fewer.
/// <list type="table">
/// <listheader><term>precision, rows, matrices</term><description>kernel</description></listheader>
/// <item><term>fast, pairs and more, the processor has <c>vdpbf16ps</c></term><description><see cref="ProductKernel.Bf16Tiles"/></description></item>
/// <item><term>1 to few rows, in panels</term><description><see cref="ProductKernel.PanelDot"/></description></item>
/// <item><term>1 to few rows, stored [out, in]</term><description><see cref="ProductKernel.Transpose"/></description></item>
/// <item><term>1 row, stored [in, out]</term><description><see cref="ProductKernel.Axpy"/></description></item>
/// <item><term>2 to few rows, stored [in, out]</term><description><see cref="ProductKernel.Strip"/></description></item>
/// <item><term>up to 192 rows, all stored [in, out], 4096 outputs or more, 16 lanes</term><description><see cref="ProductKernel.CopyAhead"/></description></item>
/// <item><term>all others</term><description><see cref="ProductKernel.Tiles"/></description></item>
/// </list>
/// All but <see cref="ProductKernel.Bf16Tiles"/> sum in float32, of [in, out] in the order of the inputs, of the others in blocks of 256 inputs, so which of them computes a row shows in no bit of it;
/// of compact panels, whose exceptions <see cref="ProductKernel.PanelDot"/> adds last (of up to 8 rows; with 16 lanes of all), in the last bits of an output that has one, and of a weight some of whose matrices are stored [in, out], in the last bits of the others'.
/// In fast, fewer rows get what they get in exact.
/// The matrices of one weight have one kernel each, by their form; those that read x packed are chosen for all of them.
/// The bounds were measured on AMD EPYC machines of families 25 and 26 (AVX-512 with bfloat16, and AVX2; 32 MB of third-level cache); bench/results/products.md says how. Of bench/results/cpu.md the rows
/// "encode 16k" are of matrices stored [in, out], "layer" and "decode" of ones stored [out, in], and those called "packed" of panels. <c>--profile</c> and <c>doctor</c> say what is chosen.
/// </remarks>
internal readonly record struct ProductPlan
{
    /// <summary>With more rows than this, packing weights into blocks pays.</summary>
    public const int FewRows = 16;

    /// <summary>The same of weights that are all stored [out, in], all panels, or stored [in, out] where vectors are narrow.</summary>
    public const int StreamRows = 32;

    /// <summary>The same of float16 panels where vectors are narrow.</summary>
    public const int FewFloat16Rows = 4;

    /// <summary>
    /// Up to here weights stored [in, out] are copied ahead, if the vectors have the registers for a tile that leaves time to copy.
    /// </summary>
    public const int AheadRows = 192;

    /// <summary>Lanes that leave those registers.</summary>
    public const int AheadLanes = 16;

    /// <summary>Outputs that are enough for all workers to copy ahead.</summary>
    public const int AheadOutputs = 8 * AheadPanel.Outputs;

    /// <summary>Rows that meet a packed block of weights: enough to hide the packing, few enough to keep x in the caches.</summary>
    public const int MaxRows = 768;

    // A block of 295 kB stays in a second-level cache beside the rows of x that pass over it; measured best of 128 … 256 by 128 … 1024.
    private const int BlockOutputs = 192;
    private const int BlockInputs = 384;

    // A block of as much memory, of the inputs that are summed before they join.
    private const int ApartOutputs = 288;

    // Of stored rows [in, out], what a worker reads at a time: a page.
    private const int RunBytes = 4096;

    // Weights of one unit. A worker takes units in order, so they are one stream; small ones let both ends meet.
    private const int UnitBytes = 1 << 17;

    private readonly ProductKernel _outputsFirst, _inputsFirst, _inPanels;

    private ProductPlan(ProductKernel outputsFirst, ProductKernel inputsFirst, ProductKernel inPanels)
    {
        _outputsFirst = outputsFirst;
        _inputsFirst = inputsFirst;
        _inPanels = inPanels;
    }

    /// <summary>Outputs of one unit of work.</summary>
    public int UnitOutputs { get; private init; }

    /// <summary>Outputs of which a worker packs the weights at once; 0 where nothing is packed.</summary>
    public int PanelOutputs { get; private init; }

    /// <summary>Inputs of which a worker packs the weights at once.</summary>
    public int PanelInputs { get; private init; }

    /// <summary>Whether a block's sums are made before they join those of the blocks before it, as <see cref="PanelDot{S, V}"/> and <see cref="TransposeKernel{S, V}"/> do; else they go on from those.</summary>
    public bool SumsApart { get; private init; }

    /// <summary>Rows of a packed panel of x; 0 where kernels read x as it is.</summary>
    public int PackedRows { get; private init; }

    /// <summary>The kernel of matrices of a form.</summary>
    public ProductKernel this[StoredForms form] => form switch
    {
        StoredForms.OutputsFirst => _outputsFirst,
        StoredForms.InputsFirst => _inputsFirst,
        _ => _inPanels,
    };

    /// <summary>Chooses.</summary>
    public static ProductPlan Choose(int rows, in WeightTraits weight, Precision precision, in CpuTraits cpu)
    {
        return precision == Precision.Fast && cpu.MultipliesBf16 && rows > RowsBelowPairs(weight)
            ? Blocks(ProductKernel.Bf16Tiles, weight, BlockOutputs, BlockInputs, Bf16Code.TallRows)
            : Float32(rows, weight, cpu);
    }

    /// <summary>The plan of a product with a matrix that is read the other way round: [out, in] as [in, out].</summary>
    public static ProductPlan Transposed(in WeightTraits weight, in CpuTraits cpu) => Tiles(weight, cpu);

    /// <summary>The kernels of a weight by the number of rows: <c>PanelDot 1 to 8, Tiles from 9 rows</c>. Of matrices of several forms, those of each.</summary>
    public static string Describe(in WeightTraits weight, Precision precision, in CpuTraits cpu)
    {
        List<string> spans = [];
        string last = "";
        int first = 1;
        for (int rows = 1; rows <= MaxRows; rows++)
        {
            string name = Choose(rows, weight, precision, cpu).Name(weight);
            if (name != last && rows > 1)
                spans.Add(Span(last, first, rows - 1));
            if (name != last)
                (last, first) = (name, rows);
        }

        return string.Join(", ", [.. spans, FormattableString.Invariant($"{last} from {first} rows")]);
    }

    private static string Span(string name, int first, int last) => first == last ? FormattableString.Invariant($"{name} {first}")
        : FormattableString.Invariant($"{name} {first} to {last}");

    private string Name(in WeightTraits weight)
    {
        ProductPlan plan = this;
        StoredForms forms = weight.Forms;
        return string.Join('/', Enum.GetValues<StoredForms>().Where(form => (forms & form) != 0).Select(form => plan[form]).Distinct());
    }

    // Rounding and pairing a block costs the same for every number of rows, and most where its stored rows are short pieces of long ones.
    private static int RowsBelowPairs(in WeightTraits weight)
    {
        bool isWide = weight.ElementBytes > 2;
        if (weight.AnyInputsFirst)
            return isWide ? 128 : 96;
        return isWide && (weight.Forms & StoredForms.OutputsFirst) != 0 ? 48 : FewRows;
    }

    private static ProductPlan Float32(int rows, in WeightTraits weight, in CpuTraits cpu)
    {
        bool isNarrow = cpu.Lanes < AheadLanes, allInputsFirst = weight.Forms == StoredForms.InputsFirst;
        int few = weight.Forms switch
        {
            StoredForms.InPanels when weight.AnyFloat16 && isNarrow => FewFloat16Rows,
            StoredForms.InPanels or StoredForms.OutputsFirst => StreamRows,
            StoredForms.InputsFirst when isNarrow => StreamRows,
            _ => FewRows,
        };
        if (rows <= few)
        {
            return new ProductPlan(ProductKernel.Transpose, rows == 1 ? ProductKernel.Axpy : ProductKernel.Strip, ProductKernel.PanelDot)
            {
                PanelOutputs = PanelLayout.Outputs,
                PanelInputs = TransposePanel.Inputs,
                UnitOutputs = weight.AnyInputsFirst ? StripOutputs(weight) : DotOutputs(weight),
            };
        }

        return allInputsFirst && !isNarrow && rows <= AheadRows && weight.Outputs >= AheadOutputs ? CopyAhead(weight) : Tiles(weight, cpu);
    }

    private static ProductPlan CopyAhead(in WeightTraits weight) => All(ProductKernel.CopyAhead) with
    {
        PanelOutputs = AheadPanel.Outputs,
        PanelInputs = 2 * AheadPanel.Inputs,
        UnitOutputs = Math.Clamp(weight.Outputs / 8 / AheadPanel.Outputs, 1, 2) * AheadPanel.Outputs,
    };

    // Stored rows are read in runs of a block's inputs, or of its outputs where they are [in, out]: the longer side lies along them.
    private static ProductPlan Tiles(in WeightTraits weight, in CpuTraits cpu) =>
        weight.AnyInputsFirst
            ? Blocks(ProductKernel.Tiles, weight, BlockInputs, BlockOutputs, cpu.TileRows)
            : Blocks(ProductKernel.Tiles, weight, ApartOutputs, TransposePanel.Inputs, cpu.TileRows) with { SumsApart = true };

    private static ProductPlan Blocks(ProductKernel kernel, in WeightTraits weight, int outputs, int inputs, int packedRows) =>
        All(kernel) with
        {
            PanelOutputs = outputs,
            PanelInputs = inputs,
            UnitOutputs = Math.Clamp(weight.Outputs / 8 / 32 * 32, 32, outputs),
            PackedRows = packedRows,
        };

    private static ProductPlan All(ProductKernel kernel) => new(kernel, kernel, kernel);

    private static int DotOutputs(in WeightTraits weight) =>
        (int)Math.Clamp(UnitBytes / Math.Max(1, (long)weight.Inputs * weight.ElementBytes) / 32 * 32, 32, 256);

    /// <summary>Outputs of a strip: a page of each stored row where there are many, and a few strips for the workers to share where there are not.</summary>
    private static int StripOutputs(in WeightTraits weight) => Math.Clamp(weight.Outputs / 8 / 64 * 64, 64, RunBytes / weight.ElementBytes);
}
