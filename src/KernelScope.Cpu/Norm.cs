using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KernelScope.Cpu;

/// <summary>RMS norm of a row in double, so that it rounds as the equation does.</summary>
/// <remarks>Equation: u = x · (mean(x²) + ε)^(−1/2). Vectors of four doubles at any instruction set: a norm costs microseconds, and its bits are then the same everywhere.</remarks>
internal static unsafe class Norm
{
    /// <summary>Normalizes one row; in place or not.</summary>
    public static void Normalize(float* x, int count, float epsilon, float* u)
    {
        double factor = 1 / Math.Sqrt((SumOfSquares(x, count) / count) + epsilon);
        Vector256<double> factors = Vector256.Create(factor);
        int i = 0;
        for (; i + 8 <= count; i += 8)
        {
            Vector256<float> values = Vector256.Load(x + i);
            Vector256.Narrow(Vector256.WidenLower(values) * factors, Vector256.WidenUpper(values) * factors).Store(u + i);
        }

        for (; i < count; i++)
            u[i] = (float)(x[i] * factor);
    }

    /// <summary>‖x‖².</summary>
    public static double SumOfSquares(float* x, int count) => Dot(x, x, count);

    /// <summary>⟨x, y⟩; a product of float32 values is exact in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Dot(float* x, float* y, int count)
    {
        Vector256<double> a = default, b = default, c = default, d = default;
        int i = 0;
        for (; i + 16 <= count; i += 16)
        {
            Vector256<float> xLow = Vector256.Load(x + i), xHigh = Vector256.Load(x + i + 8), yLow = Vector256.Load(y + i),
                yHigh = Vector256.Load(y + i + 8);
            a += Vector256.WidenLower(xLow) * Vector256.WidenLower(yLow);
            b += Vector256.WidenUpper(xLow) * Vector256.WidenUpper(yLow);
            c += Vector256.WidenLower(xHigh) * Vector256.WidenLower(yHigh);
            d += Vector256.WidenUpper(xHigh) * Vector256.WidenUpper(yHigh);
        }

        Vector256<double> all = a + b + (c + d);
        double sum = all[0] + all[1] + (all[2] + all[3]);
        for (; i < count; i++)
            sum += (double)x[i] * y[i];
        return sum;
    }
}
