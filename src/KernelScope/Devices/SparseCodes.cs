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
    public ReadOnlySpan<int> FeaturesOf(int r) => Feature.AsSpan((int)RowStart[r], (int)(RowStart[r + 1] - RowStart[r]));

    /// <summary>The values of row <paramref name="r"/>.</summary>
    public ReadOnlySpan<float> ValuesOf(int r) => Value.AsSpan((int)RowStart[r], (int)(RowStart[r + 1] - RowStart[r]));

    /// <summary>The value of one feature in row <paramref name="r"/> (ascending indices); 0 where it is not active.</summary>
    public float ValueOf(int r, int feature)
    {
        int at = FeaturesOf(r).BinarySearch(feature);
        return at < 0 ? 0f : ValuesOf(r)[at];
    }

    /// <summary>Makes room for <paramref name="rows"/> rows and <paramref name="count"/> pairs, keeping what is there; what was larger stays.</summary>
    public void Resize(int rows, int count)
    {
        if (RowStart.Length < rows + 1)
        {
            long[] starts = RowStart;
            Array.Resize(ref starts, rows + 1);
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
}
