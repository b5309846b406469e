using KernelScope.Devices;
using KernelScope.Sae;

namespace KernelScope.Attribution;

/// <summary>What each active feature contributes, to first order, to a function of the logits: y_f = f(x)_f · (W_dec[f] · ∇).</summary>
/// <remarks>∇ is the gradient at the SAE's output site. Lieberum et al. 2024, App. C.3, for the mean-centred logit of the correct next token.</remarks>
public sealed class FeatureAttribution : IDisposable
{
    private readonly Device _device;
    private readonly Weight _decoder;
    private readonly Mat _gradient;
    private readonly Mat _alongFeatures;
    private readonly float[] _host;

    /// <summary>Attribution to the features of an SAE, whose checkpoint stays open meanwhile.</summary>
    public FeatureAttribution(JumpReluSae sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        _device = sae.Device;
        _decoder = sae.CreateDecoderRows();
        _gradient = _device.CreateMat(1, sae.Parameters.OutputDim, "gradient");
        _alongFeatures = _device.CreateMat(1, sae.FeatureCount, "gradient along features");
        _host = new float[sae.FeatureCount];
    }

    /// <summary>y of every code, in the codes' order.</summary>
    /// <param name="codes">The features that are active at each position.</param>
    /// <param name="gradients">∇ at each position, [rows, d_out].</param>
    public double[] Of(CodeList codes, ReadOnlySpan<float> gradients)
    {
        ArgumentNullException.ThrowIfNull(codes);
        int dim = _gradient.Columns;
        if (gradients.Length != codes.Rows * dim)
            throw new ArgumentException($"{gradients.Length} gradient values for {codes.Rows} rows of {dim}.");
        double[] y = new double[codes.Count];
        for (int r = 0; r < codes.Rows; r++)
        {
            _device.Write(gradients.Slice(r * dim, dim), _gradient);
            _device.Linear(_gradient, _decoder, _alongFeatures);
            _device.Read(_alongFeatures, _host);
            for (long i = codes.RowStart[r]; i < codes.RowStart[r + 1]; i++)
                y[i] = (double)codes.Value[i] * _host[codes.Feature[i]];
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

    /// <inheritdoc/>
    public void Dispose()
    {
        _decoder.Dispose();
        _gradient.Buffer.Dispose();
        _alongFeatures.Buffer.Dispose();
    }
}
