using KernelScope.Cpu.MachineCode;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>x·Wᵀ with everything that a unit of work needs to compute a range of outputs for all rows.</summary>
internal unsafe struct Product
{
    /// <summary>Which kernel multiplies.</summary>
    public ProductPlan Plan;

    /// <summary>The rows of x, <see cref="XStride"/> apart.</summary>
    public float* X;

    public long XStride;

    /// <summary>Number of rows of x.</summary>
    public int Rows;

    /// <summary>Number of inputs.</summary>
    public int Inputs;

    /// <summary>Number of outputs.</summary>
    public int Outputs;

    /// <summary>x in panels of <see cref="ProductPlan.PackedRows"/> rows, for kernels of tiles; null where kernels read x itself.</summary>
    public float* PackedX;

    /// <summary>Number of rows of <see cref="PackedX"/>: whole tiles.</summary>
    public int PaddedRows;

    /// <summary>The machine code of <see cref="ProductKernel.Bf16Tiles"/>: then <see cref="PackedX"/> holds pairs.</summary>
    public Bf16Tiles Bf16;

    /// <summary>The weight's stored matrices.</summary>
    public StoredMatrix* Parts;

    public int PartCount;

    /// <summary>Memory of each worker, <see cref="ScratchStride"/> values apart: first a weight panel, then what the op asked for.</summary>
    public float* Scratch;

    public long ScratchStride;

    /// <summary>Outputs of one unit of work.</summary>
    public int UnitOutputs;

    /// <summary>Whether the product is added to the destination; by <see cref="ProductKernel.Tiles"/> only.</summary>
    public bool Adds;

    /// <summary>Outputs of which a worker packs the weights at once.</summary>
    public readonly int PanelOutputs => Plan.PanelOutputs;

    /// <summary>Inputs of which a worker packs the weights at once.</summary>
    public readonly int PanelInputs => Plan.PanelInputs;

    /// <summary>
    /// The packed rows from <paramref name="row"/> on (the first of a tile) for <paramref name="depth"/> inputs. All rows' values for the inputs of one weight panel
    /// follow each other, so that a pass over a panel reads one stream.
    /// </summary>
    public readonly float* PackedRows(int row, int firstInput, int depth) =>
        PackedX + ((long)firstInput * PaddedRows) + ((long)row * depth);

    /// <summary>The memory of a worker that is the op's own.</summary>
    public readonly float* OwnScratch(int worker) => Scratch + (worker * ScratchStride) + ((long)PanelOutputs * PanelInputs);
}
