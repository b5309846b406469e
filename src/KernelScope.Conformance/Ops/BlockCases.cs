using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// Shapes for which a device may have a kernel of its own: every dtype with rows that lie on 16 bytes and are a multiple of 8 long, for every small number of rows
/// and for more than 8; heads of up to 256 values; lists so long, and rows so wide, that they are found in several steps. Small on every scale.
/// </summary>
internal static class BlockCases
{
    private const int Inputs = 40;

    public static IEnumerable<ConformanceCase> All()
    {
        foreach (DType dtype in (DType[])[DType.BF16, DType.F16, DType.F32])
        {
            WeightForm form = new(dtype);
            foreach (int rows in (int[])[1, 2, 3, 8, 9])
            {
                Layout layout = rows == 9 ? Layout.Dense : Layout.Aligned;
                yield return LinearCases.Plain(rows, Inputs, 21, form, layout);
                yield return GatedGeluCases.Plain($"{Inputs} to 13, whole blocks, {form}",
                    rows, Inputs, 13, layout, new PartForm(26, form));
                yield return SaeEncodeCases.Plain("whole blocks, ", rows, Inputs, 70, form, layout);
            }

            // Two tiles of rows and of outputs.
            yield return LinearCases.Plain(70, 32, 131, form, Layout.Aligned);
            yield return SaeEncodeCases.Plain("whole blocks, ", 70, 32, 131, form, Layout.Aligned);
        }

        foreach (int headDim in (int[])[64, 100, 128, 200, 256])
        {
            yield return AttendCases.Case("whole blocks", new(2, 1, headDim, 1, 20, 24, 0, 50, 0.1f));
            yield return AttendCases.Case("whole blocks", new(2, 1, headDim, 9, 30, 40, 20, 50, 0.1f));
            yield return AttendCases.Case("whole blocks, no pairs of heads", new(1, 1, headDim, 2, 20, 24, 0, 50, 0.1f));
        }

        foreach (int headDim in (int[])[128, 256])
        {
            yield return AttendCases.Case("bf16 cache, whole blocks", new(2, 1, headDim, 1, 20, 24, 0, 50, 0.1f, Type: DType.BF16));
            yield return AttendCases.Case("bf16 cache, whole blocks, no pairs of heads",
                new(1, 1, headDim, 1, 20, 24, 0, 50, 0.1f, Type: DType.BF16));
            yield return AttendCases.Case("bf16 cache, whole blocks", new(2, 1, headDim, 9, 30, 40, 20, 50, 0.1f, Type: DType.BF16));
        }

        yield return LogitCases.TopK(2, 2100, 3, Layout.Dense);
        yield return LogitCases.TopK(1, 1100, 512, Layout.Strided);
        yield return LogitCases.TopK(2, 700, 600, Layout.Strided);
    }
}
