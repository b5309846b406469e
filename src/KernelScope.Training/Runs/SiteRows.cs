using System.Runtime.InteropServices;
using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Numerics;

namespace KernelScope.Training.Runs;

/// <summary>The rows of one site of one shard, streamed to disk chunk by chunk as the forward pass makes them, with their sums.</summary>
internal sealed class SiteRows : IDisposable
{
    private readonly SiteRecord _site;
    private readonly DType _type;
    private readonly PlacedFile _file;
    private readonly SafetensorsWriter _writer;
    private readonly float[] _chunk;
    private readonly byte[] _narrow;
    private readonly double[] _sum;
    private readonly float[] _stored;
    private double _sumSquaredNorm;
    private double _sumSquaredRounding;
    private double _maxSquaredNorm = -1;
    private (long, int) _maxAt = (-1, -1);
    private int _rows;

    public SiteRows(string path, SiteRecord site, DType type, int rows, int chunkLength, IReadOnlyDictionary<string, string> metadata)
    {
        _site = site;
        _type = type;
        _chunk = new float[checked(chunkLength * site.Width)];
        _narrow = type == DType.F32 ? [] : new byte[_chunk.Length * type.ByteSize()];
        _sum = new double[site.Width];
        _stored = new float[type == DType.F32 ? 0 : _chunk.Length];
        _file = PlacedFile.Create(path);
        try
        {
            _writer = new SafetensorsWriter(_file.Stream, Tensors(site, type, rows), metadata);
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    /// <summary>The site.</summary>
    public SiteRecord Site => _site;

    /// <summary>What a file of rows holds.</summary>
    public static TensorInfo[] Tensors(SiteRecord site, DType type, long rows) =>
    [
        new TensorInfo("x", type, [rows, site.Width]), new TensorInfo("sequence", DType.I32, [rows]),
        new TensorInfo("position", DType.I32, [rows]), new TensorInfo("token", DType.I32, [rows]),
    ];

    /// <summary>What such a file says of itself.</summary>
    public static SortedDictionary<string, string> Metadata(RunPlan plan, int shard, string site, DType type) => new(StringComparer.Ordinal)
    {
        ["run"] = plan.Id,
        ["shard"] = RunFolder.Number(shard),
        ["site"] = site,
        ["dtype"] = RunPlan.NameOf(type),
    };

    /// <summary>Takes a call's values from the device.</summary>
    public void Read(HookCall call, Mat value)
    {
        _rows = value.Rows;
        call.Device.Read(value, _chunk.AsSpan(0, value.Rows * value.Columns));
    }

    /// <summary>Writes the rows of the chunk that are kept. Touches no device.</summary>
    /// <param name="keeps">For each row of the chunk, whether it is kept.</param>
    /// <param name="sequence">Number of the sequence.</param>
    /// <param name="position">Position of the first row.</param>
    /// <exception cref="NotFiniteException">A value is not a finite number.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void Append(ReadOnlySpan<bool> keeps, long sequence, int position)
    {
        int width = _site.Width;
        int r = 0;
        while (r < _rows)
        {
            int start = r;
            while (r < _rows && keeps[r])
                r++;
            if (r > start)
                AppendRun(_chunk.AsSpan(start * width, (r - start) * width), sequence, position + start);
            r = Math.Max(r, start + 1);
        }
    }

    /// <summary>Ends the file and gives it its name.</summary>
    public SiteManifest Place(int[] sequence, int[] position, int[] token)
    {
        _writer.Append<int>(sequence);
        _writer.Append<int>(position);
        _writer.Append<int>(token);
        _writer.Commit();
        return new SiteManifest
        {
            File = _file.Place(),
            Rows = sequence.Length,
            SumX = _sum,
            SumSquaredNorm = _sumSquaredNorm,
            SumSquaredRounding = _type == DType.F32 ? null : _sumSquaredRounding,
            MaxNorm = _maxSquaredNorm < 0 ? 0 : Math.Sqrt(_maxSquaredNorm),
            MaxNormAt = _maxAt,
        };
    }

    public void Dispose()
    {
        _writer.Dispose();
        _file.Dispose();
    }

    private void AppendRun(ReadOnlySpan<float> rows, long sequence, int position)
    {
        int width = _site.Width;
        for (int at = 0; at < rows.Length; at += width)
        {
            ReadOnlySpan<float> row = rows.Slice(at, width);
            RowSums.Add(row, _sum);
            double squared = RowSums.SquaredNorm(row);
            // A sum of squares of finite float32 values is far below the largest double, so this sees every value that is not finite.
            if (!double.IsFinite(squared))
                NotFiniteException.Throw($"the activations at {_site.Name} of sequence {sequence}", position + (at / width));
            _sumSquaredNorm += squared;
            if (squared <= _maxSquaredNorm)
                continue;
            _maxSquaredNorm = squared;
            _maxAt = (sequence, position + (at / width));
        }

        _writer.AppendBytes(Stored(rows, sequence, position));
    }

    /// <summary>The values as they are stored: rounded to nearest even.</summary>
    private ReadOnlySpan<byte> Stored(ReadOnlySpan<float> rows, long sequence, int position)
    {
        if (_type == DType.F32)
            return MemoryMarshal.AsBytes(rows);
        Span<byte> bytes = _narrow.AsSpan(0, rows.Length * _type.ByteSize());
        Span<float> stored = _stored.AsSpan(0, rows.Length);
        if (_type == DType.BF16)
        {
            Span<BFloat16> narrow = MemoryMarshal.Cast<byte, BFloat16>(bytes);
            BFloat16.Narrow(rows, narrow);
            BFloat16.Widen(narrow, stored);
        }
        else
        {
            NarrowToHalf(rows, MemoryMarshal.Cast<byte, Half>(bytes), stored, sequence, position);
        }

        for (int at = 0; at < rows.Length; at += _site.Width)
            _sumSquaredRounding += RowSums.Compare(rows.Slice(at, _site.Width), stored.Slice(at, _site.Width)).Error;
        return bytes;
    }

    private void NarrowToHalf(ReadOnlySpan<float> rows, Span<Half> halves, Span<float> stored, long sequence, int position)
    {
        for (int i = 0; i < rows.Length; i++)
        {
            halves[i] = (Half)rows[i];
            stored[i] = (float)halves[i];
            if (Half.IsInfinity(halves[i]))
                throw new InvalidDataException($"{_site.Name}, sequence {sequence}, position {position + (i / _site.Width)}: {rows[i]} " +
                    $"is too large for f16; use --dtype bf16 or f32.");
        }
    }
}
