using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>
/// How often and how strongly each feature fires: count, Σ value and Σ value² in double, the largest value and its first place, and a
/// histogram with the fixed edges 2^(i/4), i = −80 … 80:
/// bin 0 below the first edge, bin i + 81 from 2^(i/4) on, bin 161 from the last edge on.
/// </summary>
internal sealed class FeatureDensity
{
    /// <summary>Bins of a histogram.</summary>
    public const int Bins = 162;

    private const int LowestEdge = -80, HighestEdge = 80;

    // 2^(1/4), 2^(1/2), 2^(3/4) as float32.
    private static readonly float[] Quarters = [1.1892071f, 1.4142135f, 1.6817929f];

    private readonly int _features;
    private readonly long[] _firing;
    private readonly double[] _sum;
    private readonly double[] _sumSquares;
    private readonly float[] _max;
    private readonly int[] _maxSequence;
    private readonly int[] _maxPosition;
    private readonly long[] _histogram;

    public FeatureDensity(int features)
    {
        _features = features;
        _firing = new long[features];
        _sum = new double[features];
        _sumSquares = new double[features];
        _max = new float[features];
        _maxSequence = [.. Enumerable.Repeat(-1, features)];
        _maxPosition = [.. Enumerable.Repeat(-1, features)];
        _histogram = new long[checked(features * Bins)];
    }

    /// <summary>What is written.</summary>
    public TensorInfo[] Tensors =>
    [
        new TensorInfo("firing", DType.I64, [_features]), new TensorInfo("sum", DType.F64, [_features]),
            new TensorInfo("sum_squares", DType.F64, [_features]), new TensorInfo("max", DType.F32, [_features]),
        new TensorInfo("max_sequence", DType.I32, [_features]), new TensorInfo("max_position", DType.I32, [_features]),
            new TensorInfo("histogram", DType.I64, [_features, Bins]),
    ];

    /// <summary>Of one shard.</summary>
    public static FeatureDensity Of(CodeShard codes, int features)
    {
        var density = new FeatureDensity(features);
        for (int r = 0; r < codes.Rows; r++)
        {
            for (long i = codes.RowStart[r]; i < codes.RowStart[r + 1]; i++)
                density.Count(codes.Feature[i], codes.Value[i], codes.Sequence[r], codes.Position[r]);
        }

        return density;
    }

    /// <summary>Adds a later shard's.</summary>
    public void Add(FeatureDensity later)
    {
        for (int f = 0; f < _features; f++)
        {
            _firing[f] += later._firing[f];
            _sum[f] += later._sum[f];
            _sumSquares[f] += later._sumSquares[f];
            if (later._maxSequence[f] >= 0 && (_maxSequence[f] < 0 || later._max[f] > _max[f]))
                (_max[f], _maxSequence[f], _maxPosition[f]) = (later._max[f], later._maxSequence[f], later._maxPosition[f]);
        }

        for (int i = 0; i < _histogram.Length; i++)
            _histogram[i] += later._histogram[i];
    }

    /// <summary>Writes it.</summary>
    public void Write(SafetensorsWriter writer)
    {
        writer.Append<long>(_firing);
        writer.Append<double>(_sum);
        writer.Append<double>(_sumSquares);
        writer.Append<float>(_max);
        writer.Append<int>(_maxSequence);
        writer.Append<int>(_maxPosition);
        writer.Append<long>(_histogram);
    }

    /// <summary>The bin of a value: exact, from its bits.</summary>
    public static int BinOf(float value)
    {
        if (!(value > 0) || !float.IsNormal(value))
            return 0;
        int bits = BitConverter.SingleToInt32Bits(value);
        float fraction = BitConverter.Int32BitsToSingle((bits & 0x7FFFFF) | 0x3F800000);
        int quarter = (fraction >= Quarters[0] ? 1 : 0) + (fraction >= Quarters[1] ? 1 : 0) + (fraction >= Quarters[2] ? 1 : 0);
        int edge = (4 * ((bits >> 23) - 127)) + quarter;
        return edge < LowestEdge ? 0 : edge >= HighestEdge ? Bins - 1 : edge - LowestEdge + 1;
    }

    private void Count(int feature, float value, int sequence, int position)
    {
        _firing[feature]++;
        _sum[feature] += value;
        _sumSquares[feature] += (double)value * value;
        _histogram[(feature * Bins) + BinOf(value)]++;
        if (_maxSequence[feature] < 0 || value > _max[feature])
            (_max[feature], _maxSequence[feature], _maxPosition[feature]) = (value, sequence, position);
    }
}
