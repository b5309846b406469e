using KernelScope.Devices;
using KernelScope.Sae;

namespace KernelScope.Attribution;

/// <summary>What each active feature contributes, to first order, to a function of the logits: y_f = f(x)_f · (W_dec[f] · ∇).</summary>
/// <remarks>∇ is the gradient at the SAE's output site. Lieberum et al. 2024, App. C.3, for the mean-centred logit of the correct next token.</remarks>
public sealed class FeatureAttribution
{
    private readonly JumpReluSae _sae;
    private readonly float[] _direction;

    /// <summary>Attribution to the features of an SAE, which stays open meanwhile.</summary>
    public FeatureAttribution(JumpReluSae sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        _sae = sae;
        _direction = new float[sae.Parameters.OutputDim];
    }

    /// <summary>y of every code, in the codes' order. The products are summed in double: they cancel.</summary>
    /// <param name="codes">The features that are active at each position.</param>
    /// <param name="gradients">∇ at each position, [rows, d_out].</param>
    public double[] Of(CodeList codes, ReadOnlySpan<float> gradients)
    {
        ArgumentNullException.ThrowIfNull(codes);
        int dim = _direction.Length;
        if (gradients.Length != codes.Rows * dim)
            throw new ArgumentException($"{gradients.Length} gradient values for {codes.Rows} rows of {dim}.");
        double[] y = new double[codes.Count];
        for (int r = 0; r < codes.Rows; r++)
        {
            for (long i = codes.RowStart[r]; i < codes.RowStart[r + 1]; i++)
            {
                _sae.ReadDirection(codes.Feature[i], _direction);
                double along = 0;
                for (int d = 0; d < dim; d++)
                    along += (double)_direction[d] * gradients[(r * dim) + d];
                y[i] = codes.Value[i] * along;
            }
        }

        return y;
    }

    /// <summary>
    /// Uniformity of active latent importance, r_L0 = exp(H(p)) / ‖y‖₀ with p = |y| / Σ|y|: 1 where all active features matter alike, 1/‖y‖₀ where one does all. NaN where no y is other than 0.
    /// </summary>
    public static double Uniformity(ReadOnlySpan<double> y)
    {
        double sum = 0, entropy = 0;
        int count = 0;
        foreach (double value in y)
        {
            sum += Math.Abs(value);
            count += value != 0 ? 1 : 0;
        }

        foreach (double value in y)
        {
            double p = Math.Abs(value) / sum;
            entropy -= p > 0 ? p * Math.Log(p) : 0;
        }

        return count == 0 ? double.NaN : Math.Exp(entropy) / count;
    }
}
