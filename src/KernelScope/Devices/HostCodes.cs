namespace KernelScope.Devices;

/// <summary>Codes in host memory. Room grows by doubling and is kept, so a steady state allocates nothing.</summary>
internal sealed class HostCodes(string name, int featureCount) : SparseCodes(name, featureCount)
{
    private readonly CodeList _list = new();
    private int _row;
    private int _count;

    /// <summary>What was written last.</summary>
    public CodeList List => _list;

    /// <summary>Forgets what was written; <paramref name="rows"/> rows follow, in order, each closed by <see cref="EndRow"/>.</summary>
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

    private void MakeRoom(int more)
    {
        if (_count > Array.MaxLength - more)
            throw new InvalidOperationException($"'{Name}' would hold more than {Array.MaxLength} active features; use fewer rows at a time.");
        if (_count + more > _list.Feature.Length)
            _list.Resize(Rows, _count + more);
    }
}
