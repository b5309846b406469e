using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>Two arrays of as many values, compared block by block where they lie.</summary>
/// <remarks>Values of float64 are compared after rounding to float32, which is 6·10⁻⁸ of each.</remarks>
internal sealed class PairComparison(TensorView a, TensorView b, long rows, double tolerance)
{
    private const int BlockLength = 1 << 16;
    private readonly double[] _a = new double[BlockLength];
    private readonly double[] _b = new double[BlockLength];
    private readonly float[] _floats = new float[BlockLength];
    private readonly long[]? _integersA = Integers(a);
    private readonly long[]? _integersB = Integers(b);

    /// <summary>Fills in the numbers.</summary>
    public ArrayDiff Run(ArrayDiff diff)
    {
        double largest = Largest(), error = 0, square = 0, worst = 0;
        Departure? first = null;
        for (long start = 0; start < a.ElementCount; start += BlockLength)
        {
            int count = Read(start, both: true);
            for (int i = 0; i < count; i++)
            {
                double difference = Difference(_a[i], _b[i]);
                error += difference * difference;
                square += double.IsFinite(_a[i]) ? _a[i] * _a[i] : 0;
                worst = Math.Max(worst, difference);
                if (first is null && difference > tolerance * largest)
                    first = At(start + i, _a[i], _b[i]);
            }
        }

        return diff with { Nmse = error == 0 ? 0 : error / square, MaxDifference = worst, Largest = largest, First = first };
    }

    private double Largest()
    {
        double largest = 0;
        for (long start = 0; start < a.ElementCount; start += BlockLength)
        {
            int count = Read(start, both: false);
            for (int i = 0; i < count; i++)
                largest = double.IsFinite(_a[i]) ? Math.Max(largest, Math.Abs(_a[i])) : largest;
        }

        return largest;
    }

    private Departure At(long n, double valueA, double valueB)
    {
        (long position, long element) = Math.DivRem(n, Math.Max(1, a.ElementCount / Math.Max(1, rows)));
        return new Departure(position, element, valueA, valueB);
    }

    /// <summary>0 where both are the same infinity or no number at all; infinite where one is.</summary>
    private static double Difference(double x, double y) =>
        x.Equals(y) ? 0 : double.IsFinite(x) && double.IsFinite(y) ? Math.Abs(x - y) : double.PositiveInfinity;

    private int Read(long start, bool both)
    {
        int count = (int)Math.Min(BlockLength, a.ElementCount - start);
        Read(a, _integersA, start, _a.AsSpan(0, count));
        if (both)
            Read(b, _integersB, start, _b.AsSpan(0, count));
        return count;
    }

    private void Read(in TensorView view, long[]? integers, long start, Span<double> destination)
    {
        if (integers is null)
            view.CopyTo(start, _floats.AsSpan(0, destination.Length));
        for (int i = 0; i < destination.Length; i++)
            destination[i] = integers is null ? _floats[i] : integers[start + i];
    }

    private static long[]? Integers(in TensorView view) => view.DType.IsFloat() ? null : view.ToInt64s();
}
