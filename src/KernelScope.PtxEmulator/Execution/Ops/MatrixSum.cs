using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>
/// The sum of one block of products and the running sum, for 8 columns at once, as a generation of tensor cores makes it; see <see
/// cref="MatrixModel"/>.
/// </summary>
internal sealed unsafe class MatrixSum
{
    /// <summary>2⁻¹²⁶, from where on float32 has denormals.</summary>
    public const double SingleLeastPower = 1.1754943508222875e-38;

    private const int Columns = 8;

    /// <summary>2⁻¹⁴⁹, of which every float32 is a multiple.</summary>
    private const double SingleUnit = 1.401298464324817e-45;

    private const ulong ExponentBits = 0x7FF0_0000_0000_0000;

    /// <summary>Sign, exponent and 23 bits of fraction of a double.</summary>
    private const ulong SingleBits = 0xFFFF_FFFF_E000_0000;

    private static readonly MatrixSum AmpereSum = new(parts: 2, fraction: 24, floor: -132);
    private static readonly MatrixSum HopperSum = new(parts: 1, fraction: 25, floor: -133);

    private readonly double _unit;
    private readonly double _floor;

    private MatrixSum(int parts, int fraction, int floor)
    {
        Parts = parts;
        _unit = Math.ScaleB(1, -fraction);
        _floor = Math.ScaleB(1, floor);
    }

    /// <summary>Into how many sums the products of an instruction of the largest depth are cut.</summary>
    public int Parts { get; }

    /// <summary>The model; null: sums are exact.</summary>
    public static MatrixSum? Of(MatrixModel model) => model switch
    {
        MatrixModel.Nearest => null,
        MatrixModel.Hopper => HopperSum,
        _ => AmpereSum,
    };

    /// <summary>Powers of two of the values' exponents; of a denormal the smallest normal one's, of zero 0.</summary>
    public static void Powers(double* values, double* powers, int count, double least)
    {
        for (int i = 0; i < count; i += Vector512<double>.Count)
            Powers(Vector512.Load(values + i), least).Store(powers + i);
    }

    /// <summary>Adds <paramref name="length"/> products to the sums of 8 columns.</summary>
    public Vector512<double> Add(int length, double* left, double* leftPowers, double* right, double* rightPowers, Vector512<double> sum)
    {
        Vector512<double> plain = sum, largest = Vector512.Max(Powers(sum, SingleLeastPower), Vector512.Create(_floor));
        for (int i = 0; i < length; i++)
        {
            plain += Vector512.Create(left[i]) * Vector512.Load(right + i * Columns);
            largest = Vector512.Max(largest, Vector512.Create(leftPowers[i]) * Vector512.Load(rightPowers + i * Columns));
        }
        Vector512<double> unit = largest * Vector512.Create(_unit);
        Vector512<double> units = Vector512<double>.One / unit;
        // From +0 on, so that a sum of nothing is +0.
        Vector512<double> cut = Vector512<double>.Zero + Vector512.Truncate(sum * units);
        for (int i = 0; i < length; i++)
            cut += Vector512.Truncate(Vector512.Create(left[i]) * Vector512.Load(right + i * Columns) * units);
        Vector512<double> total = ((cut * unit).AsUInt64() & Vector512.Create(SingleBits)).AsDouble();
        Vector512<double> denormal = Vector512.LessThan(Vector512.Abs(total), Vector512.Create(SingleLeastPower));
        total = Vector512.ConditionalSelect(denormal,
            Vector512.Truncate(total / Vector512.Create(SingleUnit)) * Vector512.Create(SingleUnit), total);
        Vector512<double> over = Vector512.GreaterThan(Vector512.Abs(total), Vector512.Create((double)float.MaxValue));
        total = Vector512.ConditionalSelect(over, Vector512.CopySign(Vector512.Create(double.PositiveInfinity), total), total);
        // Infinities and NaN among the terms take the ordinary way. A product beyond float32 is finite here and not among them.
        Vector512<double> finite = Vector512.LessThan(Vector512.Abs(plain), Vector512.Create(double.PositiveInfinity));
        return Vector512.ConditionalSelect(finite, total, plain);
    }

    private static Vector512<double> Powers(Vector512<double> values, double least)
    {
        Vector512<double> powers = Vector512.Max((values.AsUInt64() & Vector512.Create(ExponentBits)).AsDouble(), Vector512.Create(least));
        return Vector512.ConditionalSelect(Vector512.Equals(values, Vector512<double>.Zero), Vector512<double>.Zero, powers);
    }
}
