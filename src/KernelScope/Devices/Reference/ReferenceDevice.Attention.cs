namespace KernelScope.Devices.Reference;

public sealed partial class ReferenceDevice
{
    /// <inheritdoc/>
    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        int headDim = cosSin.Columns;
        int half = headDim / 2;
        for (int t = 0; t < x.Rows; t++)
        {
            ReadOnlySpan<float> angles = HostBuffer.Row(cosSin, position + t);
            ReadOnlySpan<float> cos = angles[..half];
            ReadOnlySpan<float> sin = angles[half..];
            Span<float> row = HostBuffer.Row(x, t);
            for (int h = 0; h < row.Length / headDim; h++)
            {
                Span<float> head = row.Slice(h * headDim, headDim);
                for (int i = 0; i < half; i++)
                {
                    double a = head[i];
                    double b = head[i + half];
                    head[i] = (float)((a * cos[i]) - (b * sin[i]));
                    head[i + half] = (float)((b * cos[i]) + (a * sin[i]));
                }
            }
        }
    }

    /// <inheritdoc/>
    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        int headDim = cache.HeadDim;
        for (int t = 0; t < k.Rows; t++)
        {
            for (int h = 0; h < cache.KvHeadCount; h++)
            {
                int slot = Slot(cache, h, position + t);
                cache.Put(HostBuffer.Row(k, t).Slice(h * headDim, headDim), HostBuffer.Row(cache.Keys, slot));
                cache.Put(HostBuffer.Row(v, t).Slice(h * headDim, headDim), HostBuffer.Row(cache.Values, slot));
            }
        }
    }

    /// <inheritdoc/>
    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        int headDim = cache.HeadDim;
        int queriesPerKey = shape.HeadCount / cache.KvHeadCount;
        for (int t = 0; t < q.Rows; t++)
        {
            int last = position + t;
            int first = shape.Window > 0 ? Math.Max(0, last - shape.Window + 1) : 0;
            for (int h = 0; h < shape.HeadCount; h++)
            {
                ReadOnlySpan<float> query = HostBuffer.Row(q, t).Slice(h * headDim, headDim);
                Span<float> z = HostBuffer.Row(destination, t).Slice(h * headDim, headDim);
                AttendHead(query, cache, h / queriesPerKey, first, last, shape, z);
            }
        }
    }

    /// <summary>One query head over the keys <paramref name="first"/> … <paramref name="last"/> of one key/value head.</summary>
    private void AttendHead(ReadOnlySpan<float> query, KvLayer cache, int kvHead, int first, int last, AttentionShape shape, Span<float> z)
    {
        double[] weights = Scratch(last - first + 1);
        double max = double.NegativeInfinity;
        for (int j = first; j <= last; j++)
        {
            ReadOnlySpan<float> key = HostBuffer.Row(cache.Keys, Slot(cache, kvHead, j));
            double dot = 0;
            for (int i = 0; i < query.Length; i++)
                dot += (double)query[i] * cache.At(key, i);
            weights[j - first] = Cap(shape.Scale * dot, shape.Softcap);
            max = Math.Max(max, weights[j - first]);
        }

        double sum = 0;
        for (int j = first; j <= last; j++)
        {
            weights[j - first] = Math.Exp(weights[j - first] - max);
            sum += weights[j - first];
        }

        for (int i = 0; i < z.Length; i++)
        {
            double mix = 0;
            for (int j = first; j <= last; j++)
                mix += weights[j - first] * cache.At(HostBuffer.Row(cache.Values, Slot(cache, kvHead, j)), i);
            z[i] = (float)(mix / sum);
        }
    }

    /// <summary>The row of the cache's matrices where a position of a key/value head is kept.</summary>
    private static int Slot(KvLayer cache, int kvHead, int position) => (kvHead * cache.Capacity) + (position % cache.Capacity);
}
