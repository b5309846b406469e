using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>Moves a stored matrix into panels (<see cref="PanelLayout"/>): bits are moved, none is changed.</summary>
/// <remarks>Bytes: each value is read and written once. Blocks of inputs are small enough that what is written stays in the first-level cache.</remarks>
internal static unsafe class PanelPacker
{
    private const int BlockSteps = 64;

    /// <summary>Packs all panels of a matrix, several at a time.</summary>
    public static void Pack(StoredMatrix matrix, byte* panels)
    {
        long panelBytes = PanelLayout.PanelBytes(matrix.DType, matrix.Inputs);
        Parallel.For(0, matrix.PanelCount, p => Pack(matrix, p, panels + (p * panelBytes)));
    }

    /// <summary>Packs one panel of a matrix, in the plain layout of its type.</summary>
    public static void Pack(StoredMatrix matrix, int panel, byte* destination) =>
        PackPanel(matrix.DType, matrix.PanelStart(panel), matrix.OutputStride, matrix.InputStride, matrix.OutputsOf(panel), matrix.Inputs,
        destination);

    /// <summary>Packs one panel.</summary>
    /// <param name="type">Type of the values.</param>
    /// <param name="source">Value (first output, first input).</param>
    /// <param name="outputStride">Bytes from an output to the next.</param>
    /// <param name="inputStride">Bytes from an input to the next.</param>
    /// <param name="outputs">Outputs that there are, at most 32.</param>
    /// <param name="inputs">Number of inputs.</param>
    /// <param name="panel">Receives the panel.</param>
    public static void PackPanel(DType type, byte* source, long outputStride, long inputStride, int outputs, int inputs, byte* panel)
    {
        if (outputs < PanelLayout.Outputs)
            NativeMemory.Clear(panel, (nuint)PanelLayout.PanelBytes(type, inputs));
        if (type == DType.F32)
            PackSingles(source, outputStride, inputStride, outputs, inputs, (uint*)panel);
        else
            PackPairs(source, outputStride, inputStride, outputs, inputs, (uint*)panel);
    }

    private static void PackSingles(byte* source, long outputStride, long inputStride, int outputs, int inputs, uint* panel)
    {
        for (int block = 0; block < inputs; block += BlockSteps)
        {
            int end = Math.Min(inputs, block + BlockSteps);
            for (int j = 0; j < outputs; j++)
            {
                byte* w = source + (j * outputStride);
                for (int i = block; i < end; i++)
                    panel[(i * PanelLayout.Outputs) + j] = Unsafe.ReadUnaligned<uint>(w + (i * inputStride));
            }
        }
    }

    // The lower half of a little-endian word comes first in memory: that is the even input.
    private static void PackPairs(byte* source, long outputStride, long inputStride, int outputs, int inputs, uint* panel)
    {
        int pairs = inputs / 2;
        for (int block = 0; block < pairs; block += BlockSteps)
        {
            int end = Math.Min(pairs, block + BlockSteps);
            for (int j = 0; j < outputs; j++)
            {
                byte* w = source + (j * outputStride);
                for (int p = block; p < end; p++)
                {
                    uint even = Unsafe.ReadUnaligned<ushort>(w + (2 * p * inputStride)),
                        odd = Unsafe.ReadUnaligned<ushort>(w + (((2 * p) + 1) * inputStride));
                    panel[(p * PanelLayout.Outputs) + j] = even | (odd << 16);
                }
            }
        }

        for (int j = 0; j < outputs && inputs % 2 != 0; j++)
            panel[(pairs * PanelLayout.Outputs) + j] =
                Unsafe.ReadUnaligned<ushort>(source + (j * outputStride) + ((inputs - 1) * inputStride));
        if (inputs % 2 != 0)
            NativeMemory.Clear(panel + (pairs * PanelLayout.Outputs) + outputs, (nuint)((PanelLayout.Outputs - outputs) * sizeof(uint)));
    }
}
