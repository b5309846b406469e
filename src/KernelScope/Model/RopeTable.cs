namespace KernelScope.Model;

/// <summary>Cosines and sines of the rotary embedding.</summary>
internal static class RopeTable
{
    /// <summary>
    /// Row p holds cos(p·ω_i), then sin(p·ω_i), i &lt; d_head/2, ω_i = θ^(−2i/d_head). [positions, d_head].
    /// </summary>
    /// <remarks>
    /// ω and the angle are rounded to float32 as transformers rounds them (at position 8,000 that moves the angle by up to 2.4·10⁻⁴, so it belongs to the model);
    /// the cosine and sine of that angle are computed in double and rounded once.
    /// </remarks>
    public static float[] Create(int positions, int headDim, double theta)
    {
        int half = headDim / 2;
        float[] frequency = new float[half];
        for (int i = 0; i < half; i++)
            frequency[i] = 1f / (float)Math.Pow(theta, (float)(2 * i) / headDim);
        float[] table = new float[checked(positions * headDim)];
        for (int p = 0; p < positions; p++)
        {
            Span<float> row = table.AsSpan(p * headDim, headDim);
            for (int i = 0; i < half; i++)
            {
                (double sin, double cos) = Math.SinCos((float)p * frequency[i]);
                row[i] = (float)cos;
                row[half + i] = (float)sin;
            }
        }

        return table;
    }
}
