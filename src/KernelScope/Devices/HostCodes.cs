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

    /// <summary>Closes the row being written, of which only the <paramref name="most"/> largest pairs stay, the lower index first among equals; 0: all. Values are no NaN.</summary>
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
                    throw new ArgumentException($"Row {r} of the codes for '{Name}': feature {feature} after {last}; expected ascending indices below {FeatureCount}.", nameof(source));
                last = feature;
            }

            Add(features, source.ValuesOf(r));
            EndRow();
        }
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
    public static HostCodes Of(SparseCodes codes)
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
    private static float Select(Span<float> values, int rank)
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
            throw new InvalidOperationException($"'{Name}' would hold more than {Array.MaxLength} active features; use fewer rows at a time.");
        if (_count + more > _list.Feature.Length)
            _list.Resize(Rows, _count + more);
    }
}
