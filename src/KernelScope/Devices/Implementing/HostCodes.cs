namespace KernelScope.Devices;

/// <summary>Codes in host memory. Room grows by doubling and is kept, so a steady state allocates nothing.</summary>
internal sealed class HostCodes(string name, int featureCount) : SparseCodes(name, featureCount)
{
    private readonly CodeList _list = new();
    private float[] _sorted = [];
    private int _row;
    private int _count;

    /// <summary>What was written last.</summary>
    public CodeList List => _list;

    /// <summary>Forgets what was written; <paramref name="rows"/> rows follow, in order, each closed by <see cref="EndRow()"/>.</summary>
    public void Begin(int rows)
    {
        _list.Resize(rows, 0);
        _list.RowStart.AsSpan(0, rows + 1).Clear();
        _row = 0;
        _count = 0;
        Rows = rows;
    }

    /// <summary>Adds a pair to the row being written.</summary>
    public void Add(int index, float value)
    {
        MakeRoom(1);
        _list.Feature[_count] = index;
        _list.Value[_count] = value;
        _count++;
    }

    /// <summary>Adds pairs to the row being written.</summary>
    public void Add(ReadOnlySpan<int> indices, ReadOnlySpan<float> values)
    {
        MakeRoom(indices.Length);
        indices.CopyTo(_list.Feature.AsSpan(_count));
        values[..indices.Length].CopyTo(_list.Value.AsSpan(_count));
        _count += indices.Length;
    }

    /// <summary>Closes the row being written.</summary>
    public void EndRow() => _list.RowStart[++_row] = _count;

    /// <summary>Closes the row being written, of which only the <paramref name="most"/> largest pairs stay, the lower index first among equals; 0: all. Values are not NaN.</summary>
    public void EndRow(int most)
    {
        int start = (int)_list.RowStart[_row], length = _count - start;
        if (most > 0 && length > most)
        {
            KeepLargest(_list.Feature.AsSpan(start, length), _list.Value.AsSpan(start, length), most);
            _count = start + most;
        }

        EndRow();
    }

    /// <summary>Takes codes of the host, whose indices must ascend in each row.</summary>
    public void CopyFrom(CodeList source)
    {
        Begin(source.Rows);
        for (int r = 0; r < source.Rows; r++)
        {
            ReadOnlySpan<int> features = source.FeaturesOf(r);
            int last = -1;
            foreach (int feature in features)
            {
                if (feature <= last || feature >= FeatureCount)
                    throw new ArgumentException($"Row {r} of the codes for '{Name}': feature {feature} after {last}; expected ascending " +
                        $"indices below {FeatureCount}.", nameof(source));
                last = feature;
            }

            Add(features, source.ValuesOf(r));
            EndRow();
        }
    }

    /// <summary>Takes the lists of <paramref name="source"/> transposed, as many as it has features: a counting sort, so that rows ascend in each.</summary>
    public void Transpose(CodeList source, int featureCount)
    {
        Begin(featureCount);
        MakeRoom(source.Count);
        ReadOnlySpan<int> features = source.Feature.AsSpan(0, source.Count);
        Span<long> ends = _list.RowStart.AsSpan(0, featureCount + 1);
        foreach (int feature in features)
            ends[feature + 1]++;
        for (int f = 1; f <= featureCount; f++)
            ends[f] += ends[f - 1];
        // Each list's beginning moves to its end, which is where the next one began.
        for (int r = 0; r < source.Rows; r++)
        {
            for (long n = source.RowStart[r]; n < source.RowStart[r + 1]; n++)
            {
                long place = ends[source.Feature[n]]++;
                _list.Feature[place] = r;
                _list.Value[place] = source.Value[n];
            }
        }

        ends[..featureCount].CopyTo(ends[1..]);
        ends[0] = 0;
        (_row, _count) = (featureCount, source.Count);
    }

    /// <summary>Takes the indices of <paramref name="source"/>; the values are still to be written.</summary>
    public void CopyIndices(CodeList source)
    {
        Begin(source.Rows);
        MakeRoom(source.Count);
        source.RowStart.AsSpan(0, source.Rows + 1).CopyTo(_list.RowStart);
        source.Feature.AsSpan(0, source.Count).CopyTo(_list.Feature);
        (_row, _count) = (source.Rows, source.Count);
    }

    /// <summary>Gives a copy to the host.</summary>
    public void CopyTo(CodeList destination)
    {
        destination.Resize(Rows, _list.Count);
        _list.RowStart.AsSpan(0, Rows + 1).CopyTo(destination.RowStart);
        _list.Feature.AsSpan(0, _list.Count).CopyTo(destination.Feature);
        _list.Value.AsSpan(0, _list.Count).CopyTo(destination.Value);
    }

    /// <summary>The lists behind codes of a host device.</summary>
    /// <exception cref="ArgumentException">The codes belong to another kind of device.</exception>
    public static HostCodes From(SparseCodes codes)
    {
        HostCodes host = codes as HostCodes ?? throw new ArgumentException($"'{codes.Name}' is not in host memory.", nameof(codes));
        host.ThrowIfDisposed();
        return host;
    }

    private void KeepLargest(Span<int> features, Span<float> values, int most)
    {
        if (_sorted.Length < values.Length)
            _sorted = new float[Math.Max(values.Length, 2 * _sorted.Length)];
        Span<float> sorted = _sorted.AsSpan(0, values.Length);
        values.CopyTo(sorted);
        float bar = Select(sorted, values.Length - most);
        int above = 0;
        foreach (float value in values)
            above += value > bar ? 1 : 0;
        int equal = most - above, kept = 0;
        for (int i = 0; i < values.Length; i++)
        {
            if (values[i] < bar || (values[i] == bar && equal-- <= 0))
                continue;
            (features[kept], values[kept]) = (features[i], values[i]);
            kept++;
        }
    }

    /// <summary>The value that stands at <paramref name="rank"/> once the values ascend: Hoare's selection. The values change places.</summary>
    internal static float Select(Span<float> values, int rank)
    {
        int low = 0, high = values.Length - 1;
        while (low < high)
        {
            float pivot = values[low + ((high - low) / 2)];
            int i = low, j = high;
            while (i <= j)
            {
                while (values[i] < pivot)
                    i++;
                while (values[j] > pivot)
                    j--;
                if (i > j)
                    break;
                (values[i], values[j]) = (values[j], values[i]);
                i++;
                j--;
            }

            if (rank <= j)
                high = j;
            else if (rank >= i)
                low = i;
            else
                break;
        }

        return values[rank];
    }

    private void MakeRoom(int more)
    {
        if (_count > Array.MaxLength - more)
            throw new InvalidOperationException($"'{Name}' would hold more than {Array.MaxLength} active features; use fewer rows " +
                "at a time.");
        if (_count + more > _list.Feature.Length)
            _list.Resize(Rows, _count + more);
    }
}
