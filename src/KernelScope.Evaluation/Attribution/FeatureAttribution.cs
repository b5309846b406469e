using System.Buffers;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Sae;

namespace KernelScope.Attribution;

/// <summary>What each active feature contributes, to first order, to a function of the logits: y_f = f(x)_f · (W_dec[f] · ∇).</summary>
/// <remarks>∇ is the gradient at the SAE's output site. Lieberum et al. 2024, App. C.3, for the mean-centred logit of the correct next token. Any number of threads may use it.</remarks>
public sealed class FeatureAttribution
{
    private readonly JumpReluSae _sae;

    /// <summary>Attribution to the features of an SAE, which stays open meanwhile.</summary>
    public FeatureAttribution(JumpReluSae sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        _sae = sae;
    }

    /// <summary>y of every code, in the codes' order. The products are summed in double: they cancel. Rows run on the device's threads.</summary>
    /// <param name="codes">The features that are active at each position.</param>
    /// <param name="gradients">∇ at each position, [rows, d_out].</param>
    public unsafe double[] Of(CodeList codes, ReadOnlySpan<float> gradients)
    {
        ArgumentNullException.ThrowIfNull(codes);
        int dim = _sae.Parameters.OutputDim;
        if (gradients.Length != codes.Rows * dim)
            throw new ArgumentException($"{gradients.Length} gradient values for {codes.Rows} rows of {dim}.");
        double[] y = new double[codes.Count];
        TensorView decoder = _sae.Checkpoint.Decoder;
        fixed (float* first = gradients)
        {
            var start = (nint)first;
            _sae.Device.ForEach(
                codes.Rows, r => OfRow(decoder, codes, r, new ReadOnlySpan<float>((float*)start + ((long)r * dim), dim), y));
        }

        return y;
    }

    private static void OfRow(in TensorView decoder, CodeList codes, int r, ReadOnlySpan<float> gradient, double[] y)
    {
        float[] rented = ArrayPool<float>.Shared.Rent(gradient.Length);
        Span<float> direction = rented.AsSpan(0, gradient.Length);
        for (long i = codes.RowStart[r]; i < codes.RowStart[r + 1]; i++)
        {
            decoder.CopyTo((long)codes.Feature[i] * direction.Length, direction);
            y[i] = codes.Value[i] * RowSums.Dot(direction, gradient);
        }

        ArrayPool<float>.Shared.Return(rented);
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
