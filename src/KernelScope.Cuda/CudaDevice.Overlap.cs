using KernelScope.Cuda.Driver;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>Kernels that start while the one before them ends: whether this driver does it, and keeps it in a graph, is tried once.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Whether launches overlap.</summary>
    internal bool Overlaps => Context.Overlaps;

    /// <summary>
    /// Two rows add each other in turns, launched one by one, captured as a graph, and replayed: whatever is read too early gives other sums. If they are others, or a call fails, all launches are plain
    /// from then on.
    /// </summary>
    private void CheckOverlap()
    {
        const int Columns = 16_384, Turns = 3, Pairs = 3;
        try
        {
            Mat a = CreateMat(1, Columns, "overlap"), b = CreateMat(1, Columns, "overlap");
            using DeviceBuffer bufferOfA = a.Buffer, bufferOfB = b.Buffer;
            float[] values = new float[Columns];
            values.AsSpan().Fill(1);
            Write(values, a);
            (float first, float second) = (1, 0);
            for (int turn = 0; turn < Turns; turn++)
            {
                for (int n = 0; n < Pairs; n++)
                {
                    AddScaled(a, 1, b);
                    AddScaled(b, 1, a);
                    second += first;
                    first += second;
                }

                Read(a, values);
                if (Context.Overlaps && values.AsSpan().ContainsAnyExcept(first))
                    DoNotOverlap("kernels read before the one before them had ended.");
            }
        }
        catch (CudaException e) when (!CudaResults.IsSticky(e.Result))
        {
            DoNotOverlap(e.Message);
        }
    }

    private void DoNotOverlap(string why)
    {
        Context.Overlaps = false;
        Options.Warn?.Invoke($"Launches do not overlap on {Description.Name}: {why}");
    }
}
