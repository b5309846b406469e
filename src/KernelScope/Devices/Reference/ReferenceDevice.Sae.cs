namespace KernelScope.Devices.Reference;

public sealed partial class ReferenceDevice
{
    private float[] _strengths = [];

    /// <inheritdoc/>
    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        HostCodes codes = HostCodes.From(destination);
        codes.Begin(x.Rows);
        for (int t = 0; t < x.Rows; t++)
        {
            for (int f = 0; f < sae.FeatureCount; f++)
            {
                float value = Activation(HostBuffer.Row(x, t), sae, f);
                if (value > 0)
                    codes.Add(f, value);
            }

            codes.EndRow(sae.TopK);
        }
    }

    /// <inheritdoc/>
    protected override void SaeEncodeNearCore(Mat x, SaeParameters sae, SparseCodes destination, float distance, SparseCodes near)
    {
        SaeEncodeCore(x, sae, destination);
        HostCodes codes = HostCodes.From(near);
        ReadOnlySpan<float> threshold = HostBuffer.Row(sae.Threshold, 0);
        codes.Begin(x.Rows);
        for (int t = 0; t < x.Rows; t++)
        {
            for (int f = 0; f < sae.FeatureCount; f++)
            {
                float a = Preactivation(HostBuffer.Row(x, t), sae, f);
                if (Math.Abs(a - threshold[f]) < distance)
                    codes.Add(f, a);
            }

            codes.EndRow();
        }
    }

    /// <inheritdoc/>
    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination)
    {
        CodeList list = HostCodes.From(codes).List;
        HostWeight decoder = HostWeight.From(sae.Decoder);
        ReadOnlySpan<float> bias = HostBuffer.Row(sae.DecoderBias, 0);
        for (int t = 0; t < destination.Rows; t++)
        {
            ReadOnlySpan<int> features = list.FeaturesOf(t);
            ReadOnlySpan<float> values = list.ValuesOf(t);
            Span<float> y = HostBuffer.Row(destination, t);
            for (int j = 0; j < y.Length; j++)
            {
                double sum = bias[j];
                for (int n = 0; n < features.Length; n++)
                    sum += values[n] * decoder.At(j, features[n]);
                y[j] = (float)sum;
            }
        }
    }

    /// <inheritdoc/>
    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        HostWeight decoder = HostWeight.From(sae.Decoder);
        if (_strengths.Length < edits.Length)
            _strengths = new float[edits.Length];
        for (int t = 0; t < destination.Rows; t++)
        {
            for (int e = 0; e < edits.Length; e++)
                _strengths[e] = Strength(edits[e], HostBuffer.Row(read, t), sae);

            Span<float> y = HostBuffer.Row(destination, t);
            for (int j = 0; j < y.Length; j++)
            {
                double sum = y[j];
                bool changed = false;
                for (int e = 0; e < edits.Length; e++)
                {
                    if (_strengths[e] == 0)
                        continue;
                    sum += _strengths[e] * decoder.At(j, edits[e].Feature);
                    changed = true;
                }

                if (changed)
                    y[j] = (float)sum;
            }
        }
    }

    /// <summary>c of an edit in one row.</summary>
    private float Strength(FeatureEdit edit, ReadOnlySpan<float> x, SaeParameters sae) => edit.Kind switch
    {
        FeatureEditKind.Add => edit.Value,
        _ => (float)((double)edit.Value - Activation(x, sae, edit.Feature)),
    };

    /// <summary>f(x): the pre-activation a, rounded, where a &gt; θ and a &gt; 0; else 0.</summary>
    private float Activation(ReadOnlySpan<float> x, SaeParameters sae, int f)
    {
        float a = Preactivation(x, sae, f);
        return a > HostBuffer.Row(sae.Threshold, 0)[f] && a > 0 ? a : 0;
    }

    /// <summary>a, rounded.</summary>
    private float Preactivation(ReadOnlySpan<float> x, SaeParameters sae, int f) =>
        (float)(Dot(x, RowOf(sae.Encoder, f)) + HostBuffer.Row(sae.EncoderBias, 0)[f]);
}
