namespace KernelScope.Devices;

/// <summary>Lists of (index, value) pairs, one list a row, on a device: the codes of an SAE, or the largest entries of a row.</summary>
/// <remarks>
/// Codes are in ascending order of feature index. JumpReLU has no fixed number of active features, and the first token of a text can have thousands:
/// a device makes room as needed and keeps it, so that in a steady state nothing is allocated. [tokens × d_sae] is never stored.
/// For one caller at a time: what one thread encodes, another would overwrite. Disposing is safe at any time, see <see cref="DeviceResource"/>.
/// </remarks>
public abstract class SparseCodes : DeviceResource
{
    /// <summary>Describes room for codes.</summary>
    protected SparseCodes(string name, int featureCount) : base(name)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(featureCount);
        FeatureCount = featureCount;
    }

    /// <summary>d_sae (or the width of the row that <see cref="Device.TopK"/> read): indices are below it.</summary>
    public int FeatureCount { get; }

    /// <summary>Number of lists that the last op wrote.</summary>
    public int Rows { get; protected set; }
}

/// <summary>Lists of (index, value) pairs on the host, in compressed rows: row r is entries RowStart[r] … RowStart[r + 1] − 1.</summary>
/// <remarks>For one caller at a time.</remarks>
public sealed class CodeList
{
    /// <summary>Number of rows.</summary>
    public int Rows { get; private set; }

    /// <summary>Where each row begins; <see cref="Rows"/> + 1 entries count.</summary>
    public long[] RowStart { get; private set; } = [0];

    /// <summary>Indices; RowStart[Rows] entries count.</summary>
    public int[] Feature { get; private set; } = [];

    /// <summary>Values; RowStart[Rows] entries count.</summary>
    public float[] Value { get; private set; } = [];

    /// <summary>Number of pairs in all rows.</summary>
    public int Count => (int)RowStart[Rows];

    /// <summary>The indices of row <paramref name="r"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row.</exception>
    public ReadOnlySpan<int> FeaturesOf(int r)
    {
        RequireRow(r);
        return Feature.AsSpan((int)RowStart[r], (int)(RowStart[r + 1] - RowStart[r]));
    }

    /// <summary>The values of row <paramref name="r"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row.</exception>
    public ReadOnlySpan<float> ValuesOf(int r)
    {
        RequireRow(r);
        return Value.AsSpan((int)RowStart[r], (int)(RowStart[r + 1] - RowStart[r]));
    }

    /// <summary>The value of one feature in row <paramref name="r"/> (ascending indices); 0 where it is not active.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row.</exception>
    public float ValueOf(int r, int feature)
    {
        int at = FeaturesOf(r).BinarySearch(feature);
        return at < 0 ? 0f : ValuesOf(r)[at];
    }

    /// <summary>Forgets every row; the memory is kept.</summary>
    public void Clear() => Truncate(0);

    /// <summary>Refuses codes that left float32: an infinite activation would pass for an answer.</summary>
    /// <param name="what">What was encoded, for the message.</param>
    /// <param name="firstRow">What row 0 is there.</param>
    /// <exception cref="InvalidDataException">One is infinite or NaN.</exception>
    internal void RequireFinite(string what, long firstRow)
    {
        for (int i = 0; i < Count; i++)
        {
            if (float.IsFinite(Value[i]))
                continue;
            int row = 0;
            while (RowStart[row + 1] <= i)
                row++;
            throw new InvalidDataException($"{what}: feature {Feature[i]} of row {firstRow + row} is {Value[i]}, not a finite number.");
        }
    }

    /// <summary>Makes room for <paramref name="rows"/> rows and <paramref name="count"/> pairs, keeping what is there; what was larger stays.</summary>
    public void Resize(int rows, int count)
    {
        if (RowStart.Length < rows + 1)
        {
            long[] starts = RowStart;
            Array.Resize(ref starts, (int)Math.Min(Array.MaxLength, Math.Max(rows + 1L, starts.Length * 2L)));
            RowStart = starts;
        }

        if (Feature.Length < count)
        {
            int size = (int)Math.Min(Array.MaxLength, Math.Max(count, Feature.Length * 2L));
            int[] features = Feature;
            float[] values = Value;
            Array.Resize(ref features, size);
            Array.Resize(ref values, size);
            Feature = features;
            Value = values;
        }

        Rows = rows;
    }

    /// <summary>Keeps the first <paramref name="rows"/> rows.</summary>
    internal void Truncate(int rows)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)rows, (uint)Rows, nameof(rows));
        Rows = rows;
    }

    /// <summary>Adds the rows of another list behind the own ones. Room grows by doubling, so that a sequence that comes token by token is copied once or twice, not once a token.</summary>
    /// <exception cref="InvalidOperationException">The lists together have more pairs than an array can hold.</exception>
    internal void Append(CodeList more)
    {
        int rows = Rows, count = Count;
        if (more.Count > Array.MaxLength - count)
            throw new InvalidOperationException($"The rows have more than {Array.MaxLength} active features together; capture fewer " +
                "of them.");
        Resize(rows + more.Rows, count + more.Count);
        for (int r = 1; r <= more.Rows; r++)
            RowStart[rows + r] = count + more.RowStart[r];
        more.Feature.AsSpan(0, more.Count).CopyTo(Feature.AsSpan(count));
        more.Value.AsSpan(0, more.Count).CopyTo(Value.AsSpan(count));
    }

    private void RequireRow(int r)
    {
        if ((uint)r >= (uint)Rows)
            throw new ArgumentOutOfRangeException(nameof(r), $"There is no row {r}: there " +
                $"{(Rows == 1 ? "is 1 row, row 0" : Rows == 0 ? "are no rows" : $"are {Rows} rows, 0 to {Rows - 1}")}.");
    }
}
