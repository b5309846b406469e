using System.Runtime.CompilerServices;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cuda.Memory;

/// <summary>How a weight [out, in] lies in device memory.</summary>
internal enum WeightLayout
{
    /// <summary>Row-major [out, in]: an output's weights side by side, as products read them.</summary>
    OutputMajor,

    /// <summary>Row-major [in, out]: an input's weights side by side, as an SAE's decoder is read, a feature at a time.</summary>
    InputMajor,
}

/// <summary>Turns the stored matrices of a weight into one dense matrix of one dtype and layout, piece by piece.</summary>
internal sealed unsafe class WeightPacking
{
    /// <summary>Side of the squares in which a matrix is transposed: 32 lines of 64 bytes of either side stay in the first cache.</summary>
    private const int Tile = 32;

    /// <summary>Elements from which a piece is worth several threads.</summary>
    private const long ParallelElements = 1 << 16;

    private readonly WeightPart[] _parts;
    private readonly WeightLayout _layout;
    private readonly int _majors;
    private readonly int _minors;
    private readonly DType _type;
    private readonly int _size;

    /// <param name="parts">The stored matrices.</param>
    /// <param name="layout">The layout that is wanted.</param>
    /// <param name="type">The dtype that is wanted: that of every part, or float32.</param>
    public WeightPacking(WeightPart[] parts, WeightLayout layout, DType type)
    {
        _parts = parts;
        _layout = layout;
        _type = type;
        _size = type.ByteSize();
        int outputs = parts.Sum(p => p.Rows);
        (_majors, _minors) = layout == WeightLayout.OutputMajor ? (outputs, parts[0].Columns) : (parts[0].Columns, outputs);
    }

    /// <summary>Length of the whole.</summary>
    public long Bytes => (long)_majors * _minors * _size;

    /// <summary>The bytes from <paramref name="first"/> on; both ends are whole elements.</summary>
    public void Fill(long first, Span<byte> piece)
    {
        long element = first / _size;
        long end = element + (piece.Length / _size);
        fixed (byte* start = piece)
        {
            byte* at = start;
            while (element < end)
            {
                int major = (int)(element / _minors);
                int minor = (int)(element % _minors);
                // As many whole rows as there are, else the rest of a row.
                long rows = minor == 0 ? (end - element) / _minors : 0;
                int minorEnd = rows > 0 ? _minors : (int)Math.Min(_minors, minor + end - element);
                int majorEnd = major + (int)Math.Max(rows, 1);
                Rectangle(major, majorEnd, minor, minorEnd, at);
                long done = (long)(majorEnd - major) * (minorEnd - minor);
                at += done * _size;
                element += done;
            }
        }
    }

    /// <summary>Rows major … majorEnd of columns minor … minorEnd; the destination's rows follow each other without a gap.</summary>
    private void Rectangle(int major, int majorEnd, int minor, int minorEnd, byte* destination)
    {
        long stride = (minorEnd - minor) * (long)_size;
        int firstOutput = 0;
        foreach (WeightPart part in _parts)
        {
            int outputs = part.Rows;
            (int from, int to) = _layout == WeightLayout.OutputMajor ? (major, majorEnd) : (minor, minorEnd);
            from = Math.Max(from, firstOutput);
            to = Math.Min(to, firstOutput + outputs);
            if (from < to)
            {
                var source = new Source(part, _layout);
                if (_layout == WeightLayout.OutputMajor)
                    Copy(source, from - firstOutput, to - firstOutput, minor, minorEnd, destination + ((from - major) * stride), stride);
                else
                    Copy(source, major, majorEnd, from - firstOutput, to - firstOutput, destination + ((from - minor) * _size), stride);
            }

            firstOutput += outputs;
        }
    }

    private void Copy(Source source, int major, int majorEnd, int minor, int minorEnd, byte* destination, long stride)
    {
        bool sameType = source.Type == _type;
        int bands = (majorEnd - major + Tile - 1) / Tile;
        nint target = (nint)destination;
        if ((long)(majorEnd - major) * (minorEnd - minor) < ParallelElements || (sameType && source.MinorStep == 1))
        {
            for (int b = 0; b < bands; b++)
                Band(b);
        }
        else
        {
            Parallel.For(0, bands, Band);
        }

        void Band(int b)
        {
            int from = major + (b * Tile), to = Math.Min(from + Tile, majorEnd);
            byte* row = (byte*)target + ((from - major) * stride);
            if (sameType && source.MinorStep == 1)
                CopyRows(source, from, to, minor, minorEnd, row, stride);
            else if (!sameType)
                Convert(source, from, to, minor, minorEnd, row, stride);
            else if (_size == 2)
                Transpose<ushort>(source, from, to, minor, minorEnd, row, stride);
            else
                Transpose<uint>(source, from, to, minor, minorEnd, row, stride);
        }
    }

    private void CopyRows(Source source, int from, int to, int minor, int minorEnd, byte* row, long stride)
    {
        long bytes = (long)(minorEnd - minor) * _size;
        for (int m = from; m < to; m++, row += stride)
            Buffer.MemoryCopy(source.At(m, minor), row, bytes, bytes);
    }

    private static void Transpose<T>(Source source, int from, int to, int minor, int minorEnd, byte* row, long stride)
        where T : unmanaged
    {
        for (int start = minor; start < minorEnd; start += Tile)
        {
            int end = Math.Min(start + Tile, minorEnd);
            for (int m = from; m < to; m++)
            {
                byte* target = row + ((m - from) * stride);
                for (int n = start; n < end; n++)
                    Unsafe.WriteUnaligned(target + ((long)(n - minor) * sizeof(T)), Unsafe.ReadUnaligned<T>(source.At(m, n)));
            }
        }
    }

    private static void Convert(Source source, int from, int to, int minor, int minorEnd, byte* row, long stride)
    {
        for (int m = from; m < to; m++)
        {
            var target = (float*)(row + ((m - from) * stride));
            for (int n = minor; n < minorEnd; n++)
                Unsafe.WriteUnaligned(target + (n - minor), source.Widen(m, n));
        }
    }

    /// <summary>A stored matrix in the coordinates of a layout: element (major, minor) of this part.</summary>
    private readonly struct Source
    {
        private readonly byte* _pointer;
        private readonly long _majorStep;
        private readonly int _elementBytes;

        public Source(WeightPart part, WeightLayout layout)
        {
            _pointer = part.Tensor.Pointer;
            Type = part.Tensor.DType;
            _elementBytes = Type.ByteSize();
            // Column-major [a, b] and row-major [b, a] are the same bytes.
            bool inputsFirst = part.Transposed ^ part.Tensor.ColumnMajor;
            bool straight = inputsFirst == (layout == WeightLayout.InputMajor);
            (int majors, int minors) = layout == WeightLayout.OutputMajor ? (part.Rows, part.Columns) : (part.Columns, part.Rows);
            (_majorStep, MinorStep) = straight ? ((long)minors, 1L) : (1L, (long)majors);
        }

        public DType Type { get; }

        /// <summary>Distance of two neighbours in a row, in elements; 1 where the stored order is the one that is wanted.</summary>
        public long MinorStep { get; }

        public byte* At(int major, int minor) => _pointer + (((major * _majorStep) + (minor * MinorStep)) * _elementBytes);

        public float Widen(int major, int minor)
        {
            byte* at = At(major, minor);
            return Type switch
            {
                DType.F32 => Unsafe.ReadUnaligned<float>(at),
                DType.BF16 => BitConverter.UInt32BitsToSingle((uint)Unsafe.ReadUnaligned<ushort>(at) << 16),
                DType.F16 => (float)Unsafe.ReadUnaligned<Half>(at),
                _ => (float)Unsafe.ReadUnaligned<double>(at),
            };
        }
    }
}
