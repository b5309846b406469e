using System.Globalization;
using KernelScope.Devices;

namespace KernelScope.Conformance;

/// <summary>Compares what two runs gave.</summary>
internal static class Comparison
{
    /// <summary>The largest |a − b| / size, and what is wrong: it or the mean square is above its limit, or NaN and infinities are not where the equation has them.</summary>
    public static (double Worst, string? Problem) Near(TrialMatrix y, Limit limit, Func<int, int, double> size)
    {
        double worst = 0;
        (int Row, int Column) at = default;
        double errorSquares = 0;
        double squares = 0;
        for (int r = 0; r < y.Rows; r++)
        {
            for (int j = 0; j < y.Columns; j++)
            {
                double expected = y.Expected[y.IndexOf(r, j)];
                double actual = y.Actual[y.IndexOf(r, j)];
                if (!double.IsFinite(expected) || !double.IsFinite(actual))
                {
                    if (!SameKind(expected, actual, limit))
                        return (worst, Wrong(y, r, j, expected, actual, ""));
                    continue;
                }

                double error = Math.Abs(actual - expected);
                if (error <= limit.Floor)
                    error = 0;
                errorSquares += error * error;
                squares += expected * expected;
                double measure = error == 0 ? 0 : error / size(r, j);
                if (!(measure <= worst))
                    (worst, at) = (measure, (r, j));
            }
        }

        if (!(worst <= limit.Element))
        {
            string detail = FormattableString.Invariant($", off by {worst:g3} of its size; {limit.Element:g3} is allowed");
            return (worst,
                Wrong(y, at.Row, at.Column, y.Expected[y.IndexOf(at.Row, at.Column)], y.Actual[y.IndexOf(at.Row, at.Column)], detail));
        }

        double nmse = errorSquares == 0 ? 0 : errorSquares / squares;
        string? tooFar = nmse <= limit.Nmse ? null
            : string.Create(CultureInfo.InvariantCulture,
                $"'{y.Name}' has a normalised mean square error of {nmse:g3}; {limit.Nmse:g3} is allowed. Worst value: {worst:g3} of "
                    + $"its size, in row {at.Row}, column {at.Column}.");
        return (worst, tooFar);
    }

    /// <summary>Bit by bit, except that any NaN is like any other.</summary>
    public static void Same(TrialMatrix y, float[] expected, float[] actual, string what)
    {
        for (int r = 0; r < y.Rows; r++)
        {
            for (int j = 0; j < y.Columns; j++)
            {
                int n = y.IndexOf(r, j);
                if (!SameBits(expected[n], actual[n]))
                    throw new DisagreementException(
                        Wrong(y, r, j, expected[n], actual[n], $" (bits are compared; the second is what {what} gives)"));
            }
        }
    }

    /// <summary>The same lists, values bit by bit.</summary>
    public static void Same(CodeList expected, CodeList actual, string what)
    {
        Ascends(expected.Rows, actual);
        for (int r = 0; r < expected.Rows; r++)
        {
            ReadOnlySpan<int> indices = expected.FeaturesOf(r);
            if (!indices.SequenceEqual(actual.FeaturesOf(r)))
            {
                int n = indices.CommonPrefixLength(actual.FeaturesOf(r));
                string was = n < indices.Length ? $"{indices[n]}" : "the end";
                string got = n < actual.FeaturesOf(r).Length ? $"{actual.FeaturesOf(r)[n]}" : "the end";
                throw new DisagreementException($"list {r}, entry {n}: {what} gives index {got}, expected {was}.");
            }

            for (int n = 0; n < indices.Length; n++)
            {
                if (!SameBits(expected.ValuesOf(r)[n], actual.ValuesOf(r)[n]))
                    throw new DisagreementException(
                        string.Create(CultureInfo.InvariantCulture,
                            $"list {r}, index {indices[n]}: {what} gives {actual.ValuesOf(r)[n]:g9}, "
                                + $"expected {expected.ValuesOf(r)[n]:g9}."));
            }
        }
    }

    /// <summary>The number of lists, and that their beginnings ascend from 0.</summary>
    public static void Ascends(int rows, CodeList actual)
    {
        if (actual.Rows != rows)
            throw new DisagreementException($"{actual.Rows} lists, expected {rows}.");
        for (int r = 0; r < rows; r++)
        {
            if (actual.RowStart[0] != 0 || actual.RowStart[r + 1] < actual.RowStart[r])
                throw new DisagreementException($"list {r} goes from {actual.RowStart[r]} to {actual.RowStart[r + 1]}.");
        }
    }

    private static bool SameBits(float a, float b) =>
        BitConverter.SingleToInt32Bits(a) == BitConverter.SingleToInt32Bits(b) || (float.IsNaN(a) && float.IsNaN(b));

    private static bool SameKind(double expected, double actual, Limit limit)
    {
        if (double.IsNaN(expected))
            return double.IsNaN(actual);
        return expected == actual || (double.IsInfinity(expected) && double.IsNaN(actual) && limit.InfinityMayBeNaN);
    }

    private static string Wrong(TrialMatrix y, int r, int j, double expected, double actual, string detail) =>
        FormattableString.Invariant(
            $"'{y.Name}' [{y.Rows}, {y.Columns}], row {r}, column {j}: expected {expected:g9}, got {actual:g9}{detail}.");
}
