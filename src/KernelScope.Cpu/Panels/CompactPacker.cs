using System.Runtime.Intrinsics;

namespace KernelScope.Cpu.Panels;

/// <summary>Turns pair panels of bfloat16 into compact ones (<see cref="PanelLayout"/>).</summary>
internal static unsafe class CompactPacker
{
    /// <summary>Counts the biased exponents of a panel of bfloat16; 256 counts, zeros before.</summary>
    public static void CountExponents(StoredMatrix matrix, int panel, Span<int> counts)
    {
        Span<int> others = stackalloc int[256];
        others.Clear();
        bool inputsFirst = matrix.Transposed;
        int runs = inputsFirst ? matrix.Inputs : matrix.OutputsOf(panel), length = inputsFirst ? matrix.OutputsOf(panel) : matrix.Inputs;
        long stride = inputsFirst ? matrix.InputStride : matrix.OutputStride;
        for (int r = 0; r < runs; r++)
            CountExponents((ushort*)(matrix.PanelStart(panel) + (r * stride)), length, counts, others);
        for (int e = 0; e < others.Length; e++)
            counts[e] += others[e];
    }

    /// <summary>Counts biased exponents. Neighbours often have the same: counted in turns, in two tables that sum to the counts, none waits for the one before.</summary>
    private static void CountExponents(ushort* values, int count, Span<int> even, Span<int> odd)
    {
        int n = 0;
        for (; n + 2 <= count; n += 2)
        {
            even[(values[n] >> 7) & 0xFF]++;
            odd[(values[n + 1] >> 7) & 0xFF]++;
        }

        if (n < count)
            even[(values[n] >> 7) & 0xFF]++;
    }

    /// <summary>Packs panels of a matrix, or of a part of it that begins at <paramref name="firstPanel"/>, several at a time.</summary>
    /// <param name="part">The matrix or part.</param>
    /// <param name="table">The matrix's table, begun; receives the exceptions.</param>
    /// <param name="firstPanel">See above.</param>
    /// <param name="panels">Receives the part's panels.</param>
    public static void Pack(StoredMatrix part, CompactTable table, int firstPanel, byte* panels)
    {
        long pairBytes = PanelLayout.PanelBytes(part.DType, part.Inputs), panelBytes = PanelLayout.CompactPanelBytes(part.Inputs);
        Parallel.For(0, part.PanelCount, () => GC.AllocateUninitializedArray<byte>(checked((int)pairBytes)), (p, _, scratch) =>
        {
            fixed (byte* pairs = scratch)
            {
                PanelPacker.Pack(part, p, pairs);
                Pack((ushort*)pairs, part.OutputsOf(p), part.Inputs, table.Windows[firstPanel + p].Exponent, panels + (p * panelBytes),
                    table.ExceptionsOf(firstPanel + p));
            }

            return scratch;
        }, _ => { });
    }

    /// <summary>Packs a panel.</summary>
    /// <param name="pairs">The pair panel.</param>
    /// <param name="outputs">Outputs that there are.</param>
    /// <param name="inputs">Number of inputs.</param>
    /// <param name="exponent">The window.</param>
    /// <param name="panel">Receives <see cref="PanelLayout.CompactPanelBytes"/> bytes.</param>
    /// <param name="exceptions">Receives the exceptions, in order; exactly as long as there are some.</param>
    private static void Pack(ushort* pairs, int outputs, int inputs, int exponent, byte* panel, Span<PanelException> exceptions)
    {
        Vector256<ushort> window = Vector256.Create((ushort)exponent);
        int pairCount = (inputs + 1) / 2, found = 0;
        for (int p = 0; p < pairCount; p += PanelLayout.CompactInputs / 2, panel += PanelLayout.CompactBytes)
        {
            Vector256<ushort> outside = default;
            for (int j = 0; j < 2 * PanelLayout.Outputs; j += Vector256<ushort>.Count)
            {
                Vector256<ushort> c0 = Code(pairs, p, pairCount, j, window, ref outside),
                    c1 = Code(pairs, p + 1, pairCount, j, window, ref outside);
                Vector256<ushort> c2 = Code(pairs, p + 2, pairCount, j, window, ref outside),
                    c3 = Code(pairs, p + 3, pairCount, j, window, ref outside);
                ushort* line = (ushort*)panel + j;
                (c0 | ((c3 & Mask(0x0780)) << 4)).Store(line);
                (c1 | ((c3 & Mask(0x0078)) << 8)).Store(line + (2 * PanelLayout.Outputs));
                (c2 | ((c3 & Mask(0x8000)) >> 1) | ((c3 & Mask(0x0007)) << 11)).Store(line + (4 * PanelLayout.Outputs));
            }

            if (outside != default)
                found += Collect(pairs, 2 * p, outputs, inputs, exponent, exceptions[found..]);
        }
    }

    private static Vector256<ushort> Mask(ushort bits) => Vector256.Create(bits);

    private static Vector256<ushort> Code(ushort* pairs, int pair, int pairCount, int place, Vector256<ushort> window,
        ref Vector256<ushort> outside)
    {
        if (pair >= pairCount)
            return default;
        Vector256<ushort> bits = Vector256.Load(pairs + ((long)pair * 2 * PanelLayout.Outputs) + place);
        Vector256<ushort> above = ((bits >> 7) & Mask(0xFF)) - window;
        Vector256<ushort> beyond = Vector256.GreaterThan(above, Mask(PanelWindow.Width - 1));
        outside |= beyond;
        return Vector256.AndNot((bits & Mask(0x807F)) | (above << 7), beyond);
    }

    // Padding is zeros, which no window holds; nobody asks for it. More than were counted can only be found if the weights change meanwhile.
    private static int Collect(ushort* pairs, int firstInput, int outputs, int inputs, int exponent, Span<PanelException> exceptions)
    {
        int found = 0;
        for (int input = firstInput; input < Math.Min(inputs, firstInput + PanelLayout.CompactInputs); input++)
        {
            for (int output = 0; output < outputs; output++)
            {
                ushort bits = pairs[((((input / 2) * (long)PanelLayout.Outputs) + output) * 2) + (input % 2)];
                if ((uint)(((bits >> 7) & 0xFF) - exponent) >= PanelWindow.Width && found < exceptions.Length)
                    exceptions[found++] = new PanelException((uint)input, (ushort)output, bits);
            }
        }

        return found;
    }
}
