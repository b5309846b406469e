using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>What the parameters of an SAE say of a feature, without any text.</summary>
/// <param name="Feature">The feature.</param>
/// <param name="Logits">d·W_U; null where that is not defined.</param>
/// <param name="Nearest">The features with the nearest decoder rows.</param>
/// <param name="NearestEncoder">Those with the nearest encoder columns.</param>
/// <param name="Alignment">The largest components of d by size: where, the value, its share of ‖d‖₁.</param>
/// <param name="HeadShares">Of an SAE at <c>z</c>: ‖d_h‖ of each head over their sum; empty elsewhere.</param>
internal sealed record FeatureDirection(
    int Feature, FeatureLogits? Logits, IReadOnlyList<RelatedFeature> Nearest, IReadOnlyList<RelatedFeature> NearestEncoder,
    IReadOnlyList<(int At, double Value, double Share)> Alignment, IReadOnlyList<double> HeadShares);

/// <summary>
/// The directions of many features, some at a time: cosines with all others are products of matrices on the device. Memory: d_sae and
/// the vocabulary, float32, for each feature of a block.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
internal sealed class FeatureDirections
{
    private const int Components = 3, Near = 10, NearEncoder = 5;
    private readonly Gemma2Model _model;
    private readonly JumpReluSae _sae;
    private readonly HookPoint? _siteOut;
    private readonly float[] _decoderNorms;
    private readonly float[] _encoderNorms;

    public FeatureDirections(Gemma2Model model, JumpReluSae sae, HookPoint? siteOut, CancellationToken cancellationToken)
    {
        (_model, _sae, _siteOut) = (model, sae, siteOut);
        _decoderNorms = new float[sae.FeatureCount];
        _encoderNorms = new float[sae.FeatureCount];
        for (int f = 0; f < sae.FeatureCount; f++)
        {
            if ((f & 1023) == 0)
                cancellationToken.ThrowIfCancellationRequested();
            _decoderNorms[f] = Norm(sae.DecoderRow(f));
            _encoderNorms[f] = Norm(sae.EncoderColumn(f));
        }
    }

    /// <summary>The directions of some features, in their order.</summary>
    public FeatureDirection[] Of(int[] features, int listed)
    {
        FeatureLogits[]? logits = _siteOut is HookPoint site ? FeatureLogits.CreateMany(_model, _sae, site, features, listed) : null;
        float[][] rows = Array.ConvertAll(features, _sae.DecoderRow), columns = Array.ConvertAll(features, _sae.EncoderColumn);
        (Device device, SaeParameters parameters) = (_sae.Device, _sae.Parameters);
        RelatedFeature[][] near = Nearest(
            features, rows, _decoderNorms, Near, (x, y) => device.LinearTransposed(x, parameters.Decoder, y));
        RelatedFeature[][] encoder = Nearest(
            features, columns, _encoderNorms, NearEncoder, (x, y) => device.Linear(x, parameters.Encoder, y));
        return [.. features.Select((f, i) => new FeatureDirection(
            f, logits?[i], near[i], encoder[i], AlignmentOf(rows[i]), HeadSharesOf(rows[i], _siteOut, _model.Config.HeadDim)))];
    }

    private RelatedFeature[][] Nearest(int[] features, float[][] vectors, float[] norms, int count, Action<Mat, Mat> product)
    {
        Device device = _sae.Device;
        int width = vectors[0].Length, all = _sae.FeatureCount;
        float[] dots = new float[checked(features.Length * all)];
        Mat input = device.CreateMat(features.Length, width, "vectors"), output = device.CreateMat(features.Length, all, "products");
        try
        {
            device.Write([.. vectors.SelectMany(v => v)], input);
            product(input, output);
            device.Read(output, dots);
        }
        finally
        {
            input.Buffer.Dispose();
            output.Buffer.Dispose();
        }

        return [.. features.Select((feature, i) =>
        {
            Span<float> cosines = dots.AsSpan(i * all, all);
            for (int f = 0; f < all; f++)
            {
                float cosine = (float)(cosines[f] / ((double)norms[feature] * norms[f]));
                cosines[f] = float.IsFinite(cosine) ? cosine : 0;
            }

            int[] best = LargestValues.Of(cosines, count, without: feature);
            var related = new RelatedFeature[best.Length];
            for (int n = 0; n < best.Length; n++)
                related[n] = new RelatedFeature(best[n], cosines[best[n]], 0);
            return related;
        })];
    }

    /// <summary>The largest components of a direction by size.</summary>
    public static (int At, double Value, double Share)[] AlignmentOf(float[] row)
    {
        double length = row.Sum(v => Math.Abs((double)v));
        return [.. LargestValues.Of(Array.ConvertAll(row, Math.Abs), Components)
            .Select(at => (at, (double)row[at], length == 0 ? 0 : Math.Abs((double)row[at]) / length))];
    }

    /// <summary>The shares of the heads in a direction at <c>z</c>; none elsewhere.</summary>
    public static double[] HeadSharesOf(float[] row, HookPoint? siteOut, int headDim)
    {
        if (siteOut?.Site != Site.Z)
            return [];
        double[] norms = [.. row.Chunk(headDim).Select(h => (double)Norm(h))];
        double sum = norms.Sum();
        return [.. norms.Select(n => sum == 0 ? 0 : n / sum)];
    }

    private static float Norm(ReadOnlySpan<float> row)
    {
        double square = 0;
        foreach (float value in row)
            square += (double)value * value;
        return (float)Math.Sqrt(square);
    }
}
