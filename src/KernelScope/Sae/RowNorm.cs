namespace KernelScope.Sae;

/// <summary>SAELens' normalisation of one input row, and its inverse.</summary>
/// <remarks>
/// layer_norm: (x − mean) / (std + 10⁻⁵) with the unbiased standard deviation; undone as y·std + mean, without the 10⁻⁵ (as SAELens does).
/// constant_norm_rescale: x·√d/‖x‖; undone as y·‖x‖/√d. A zero row would give 0/0: it is left zero, where SAELens gives NaN.
/// </remarks>
internal readonly record struct RowNorm(double Divisor, double Scale, double Shift)
{
    private const double Epsilon = 1e-5;

    public static RowNorm Of(ReadOnlySpan<float> x, SaeNormalization kind)
    {
        double sum = 0, squares = 0;
        foreach (float value in x)
            sum += value;
        double mean = kind == SaeNormalization.LayerNorm ? sum / x.Length : 0;
        foreach (float value in x)
            squares += (value - mean) * (value - mean);
        if (kind == SaeNormalization.LayerNorm)
        {
            double deviation = Math.Sqrt(squares / (x.Length - 1));
            return new(deviation + Epsilon, deviation, mean);
        }

        double norm = Math.Sqrt(squares / x.Length);
        return new(norm == 0 ? 1 : norm, norm, 0);
    }

    public void Apply(Span<float> row)
    {
        for (int i = 0; i < row.Length; i++)
            row[i] = (float)((row[i] - Shift) / Divisor);
    }

    public void Undo(Span<float> row)
    {
        for (int i = 0; i < row.Length; i++)
            row[i] = (float)((row[i] * Scale) + Shift);
    }
}
