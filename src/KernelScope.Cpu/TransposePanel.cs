using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Size of <see cref="TransposeKernel{S, V}"/>'s panels.</summary>
internal static class TransposePanel
{
    /// <summary>Inputs of a panel, and of a block whose sums are made before they join those of the blocks before it: long sums lose fewer bits so.</summary>
    public const int Inputs = 256;

    /// <summary>Values that it holds, if it is of float32.</summary>
    public const int Length = Inputs * PanelLayout.Outputs;
}
