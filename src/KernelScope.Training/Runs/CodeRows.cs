using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Training.Runs;

/// <summary>
/// The codes of one SAE of one shard: of the float32 rows, before any rounding. They are sparse, so a shard's are held until it ends.
/// </summary>
internal sealed class CodeRows : IDisposable
{
    private readonly SaeRecord _record;
    private readonly JumpReluSae _sae;
    private readonly SparseCodes _codes;
    private readonly CodeList _chunk = new();
    private readonly List<int[]> _features = [];
    private readonly List<float[]> _values = [];
    private readonly List<long> _rowStart = [0];
    private readonly long[] _firing;

    public CodeRows(SaeRecord record, JumpReluSae sae)
    {
        _record = record;
        _sae = sae;
        _codes = sae.CreateCodes();
        _firing = new long[record.Features];
    }

    /// <summary>The SAE.</summary>
    public SaeRecord Record => _record;

    /// <summary>Encodes a call's values on the device.</summary>
    public void Encode(HookCall call, Mat value)
    {
        _sae.Encode(value, _codes);
        call.Device.Read(_codes, _chunk);
        _chunk.RequireFinite($"the features of {_record.Id}", call.Position);
    }

    /// <summary>Keeps the codes of the rows of the chunk that are kept. Touches no device.</summary>
    public void Append(ReadOnlySpan<bool> keeps)
    {
        var features = new List<int>();
        var values = new List<float>();
        long before = _rowStart[^1];
        for (int r = 0; r < _chunk.Rows; r++)
        {
            if (!keeps[r])
                continue;
            features.AddRange(_chunk.FeaturesOf(r));
            values.AddRange(_chunk.ValuesOf(r));
            foreach (int feature in _chunk.FeaturesOf(r))
                _firing[feature]++;
            _rowStart.Add(before + features.Count);
        }

        _features.Add([.. features]);
        _values.Add([.. values]);
    }

    /// <summary>Writes the two files and gives them their names.</summary>
    public CodesManifest Place(RunFolder folder, int shard, IReadOnlyDictionary<string, string> metadata, int[] sequence, int[] position,
        int[] token)
    {
        long active = _rowStart[^1];
        using PlacedFile file = PlacedFile.Create(folder.At(RunFolder.Codes(_record.Id, shard)));
        using var writer = new SafetensorsWriter(file.Stream, Tensors(sequence.Length, active), metadata);
        writer.Append<long>([.. _rowStart]);
        _features.ForEach(f => writer.Append<int>(f));
        _values.ForEach(v => writer.Append<float>(v));
        writer.Append<int>(sequence);
        writer.Append<int>(position);
        writer.Append<int>(token);
        writer.Commit();
        using PlacedFile firing = PlacedFile.Create(folder.At(RunFolder.Firing(_record.Id, shard)));
        using var counts = new SafetensorsWriter(firing.Stream, [new TensorInfo("firing", DType.I64, [_firing.Length])], metadata);
        counts.Append<long>(_firing);
        counts.Commit();
        return new CodesManifest(file.Place(), active, firing.Place());
    }

    /// <summary>What a file of codes holds.</summary>
    public static TensorInfo[] Tensors(long rows, long active) =>
    [
        new TensorInfo("row_ptr", DType.I64, [rows + 1]), new TensorInfo("feature", DType.I32, [active]),
            new TensorInfo("value", DType.F32, [active]),
        new TensorInfo("sequence", DType.I32, [rows]), new TensorInfo("position", DType.I32, [rows]),
            new TensorInfo("token", DType.I32, [rows]),
    ];

    public void Dispose() => _codes.Dispose();
}
