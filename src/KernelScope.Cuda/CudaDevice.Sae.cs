using System.Runtime.InteropServices;
using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>SAEs.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Pairs of an index and a value take 8 bytes.</summary>
    private const int PairBytes = sizeof(int) + sizeof(float);

    /// <summary>Rows that the tiled encoders and the gathering of their lists take at once, whatever the memory.</summary>
    private const int MostEncodedRows = 32_768;

    /// <summary>Tiles of a block when lists are gathered: a warp each.</summary>
    private const int TilesOfBlock = 8;

    /// <summary>
    /// Up to so many features the forms for few rows take small tiles, of which there are then enough for every multiprocessor.
    /// </summary>
    private const int NarrowFeatures = 65_536;

    private const int NarrowTile = 16;
    private const int DecodedColumns = 64;
    private const int EditedColumns = 128;
    private const int EditsOfBlock = 4;

    /// <summary>Edits that go over at once.</summary>
    private const int EditsAtOnce = 4096;

    /// <inheritdoc/>
    /// <remarks>
    /// Room for every feature of every row is kept where that is within <see cref="CudaDeviceOptions.WorkBytes"/>, and then nothing waits.
    /// Beyond it, room is kept for as many
    /// pairs as fit into those bytes; the op then waits for the number of pairs there are, and makes more room and encodes again if that
    /// was too little.
    /// The k largest pairs of a TopK SAE are chosen on the host, which waits.
    /// </remarks>
    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        if (sae.TopK > 0)
        {
            SaeEncodeByHost(x, sae, destination);
            return;
        }

        CudaCodes codes = CudaCodes.Of(this, destination);
        CudaWeight encoder = CudaWeight.Of(this, sae.Encoder);
        if (x.Rows == 0)
        {
            codes.Begin(0, 0);
            return;
        }

        ulong weights = encoder.Address(WeightLayout.OutputMajor);
        long worst = (long)x.Rows * sae.FeatureCount;
        long room = Math.Min(worst, Math.Max(1, Options.WorkBytes / PairBytes));
        codes.Begin(x.Rows, room);
        EncodeAll(x, sae, encoder, weights, codes);
        if (worst <= codes.Capacity)
            return;
        long count = PairsOf(codes);
        if (count <= codes.Capacity)
            return;
        // A quarter more than needed: the next rows are not the same.
        codes.Begin(x.Rows, Math.Min(worst, count + (count / 4)));
        EncodeAll(x, sae, encoder, weights, codes);
    }

    /// <inheritdoc/>
    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination) =>
        Decode("sae_decode", codes, sae, destination);

    /// <inheritdoc/>
    /// <remarks>One pass; <paramref name="reconstruction"/> is left as it was.</remarks>
    protected override void SaeDecodePlusErrorCore(SparseCodes codes, SaeParameters sae, Mat reconstruction, Mat destination) =>
        Decode("sae_decode_plus_error", codes, sae, destination);

    /// <inheritdoc/>
    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        CudaWeight encoder = CudaWeight.Of(this, sae.Encoder), decoder = CudaWeight.Of(this, sae.Decoder);
        ulong encoderWeights = encoder.Address(WeightLayout.OutputMajor), decoderWeights = decoder.Address(WeightLayout.InputMajor);
        int rows = Math.Min(read.Rows, LaunchQueue.MaxGridYZ);
        _scratch.Begin((long)rows * edits.Length * sizeof(float));
        ulong coefficients = _scratch.Take((long)rows * edits.Length * sizeof(float));
        for (int first = 0; first < read.Rows; first += rows)
        {
            Mat x = read.RowRange(first, Math.Min(rows, read.Rows - first)), y = destination.RowRange(first, x.Rows);
            // All coefficients of these rows before anything is written to them: x and y may be the same matrix.
            for (int start = 0; start < edits.Length; start += EditsAtOnce)
                Coefficients(x, sae, encoder, encoderWeights, edits.Slice(start, Math.Min(EditsAtOnce, edits.Length - start)),
                    coefficients + (ulong)((long)start * x.Rows * sizeof(float)));
            for (int start = 0; start < edits.Length; start += EditsAtOnce)
                Apply(y, decoder, decoderWeights, edits.Slice(start, Math.Min(EditsAtOnce, edits.Length - start)),
                    coefficients + (ulong)((long)start * x.Rows * sizeof(float)));
        }
    }

    private void Decode(string kernel, SparseCodes codes, SaeParameters sae, Mat destination)
    {
        CudaCodes source = CudaCodes.Of(this, codes);
        CudaWeight decoder = CudaWeight.Of(this, sae.Decoder);
        ulong weights = decoder.Address(WeightLayout.InputMajor);
        BeginOp().Begin(_kernels[kernel, decoder.TypeName], source.Rows, Blocks(sae.OutputDim, DecodedColumns))
            .View(source.Starts, source.Rows + 1L).View(source.Features, source.Capacity).View(source.Values, source.Capacity)
            .View(weights, decoder.Length).View(Address(sae.DecoderBias), sae.OutputDim).View(Address(destination), Span(destination))
            .Int(sae.OutputDim).Int(destination.Stride).End();
    }

    private void Coefficients(Mat x, SaeParameters sae, CudaWeight encoder, ulong weights, ReadOnlySpan<FeatureEdit> edits,
        ulong coefficients)
    {
        Span<int> features = stackalloc int[edits.Length], kinds = stackalloc int[edits.Length];
        Span<float> targets = stackalloc float[edits.Length];
        for (int e = 0; e < edits.Length; e++)
            (features[e], kinds[e], targets[e]) = (edits[e].Feature, edits[e].Kind == FeatureEditKind.Clamp ? 1 : 0, edits[e].Value);
        LaunchQueue queue = BeginOp(3 * sizeof(int) * edits.Length);
        ulong featuresAt = queue.Upload<int>(features), kindsAt = queue.Upload<int>(kinds), targetsAt = queue.Upload<float>(targets);
        queue.Begin(_kernels["sae_edit_coefficients", encoder.TypeName], Blocks(edits.Length, EditsOfBlock), x.Rows)
            .View(Address(x), Span(x)).View(weights, encoder.Length).View(Address(sae.EncoderBias), sae.FeatureCount)
            .View(Address(sae.Threshold), sae.FeatureCount)
            .View(featuresAt, edits.Length).View(kindsAt, edits.Length).View(targetsAt, edits.Length)
            .View(coefficients, (long)x.Rows * edits.Length)
            .Int(sae.InputDim).Int(edits.Length).Int(x.Stride).End();
    }

    private void Apply(Mat y, CudaWeight decoder, ulong weights, ReadOnlySpan<FeatureEdit> edits, ulong coefficients)
    {
        Span<int> features = stackalloc int[edits.Length];
        for (int e = 0; e < edits.Length; e++)
            features[e] = edits[e].Feature;
        LaunchQueue queue = BeginOp(sizeof(int) * edits.Length);
        ulong featuresAt = queue.Upload<int>(features);
        queue.Begin(_kernels["sae_edit_apply", decoder.TypeName], y.Rows, Blocks(y.Columns, EditedColumns))
            .View(coefficients, (long)y.Rows * edits.Length).View(featuresAt, edits.Length).View(weights, decoder.Length)
            .View(Address(y), Span(y))
            .Int(edits.Length).Int(y.Columns).Int(y.Stride).End();
    }

    private void EncodeAll(Mat x, SaeParameters sae, CudaWeight encoder, ulong weights, CudaCodes codes)
    {
        int most = RowsEncodedAtOnce(sae.FeatureCount);
        // One form for all rows, so that a row's bits do not depend on the pieces.
        bool tiled = x.Rows > FewRows;
        for (int first = 0; first < x.Rows; first += most)
            EncodeRows(Operand.Of(this, x.RowRange(first, Math.Min(most, x.Rows - first))), first, tiled, sae, encoder, weights, codes);
    }

    /// <summary>
    /// Rows whose lists, at their longest, fit into the work space; a tile's rows at least, for less would read the encoder more often.
    /// </summary>
    private int RowsEncodedAtOnce(int featureCount)
    {
        long rows = Options.WorkBytes / PairBytes / featureCount / 64 * 64;
        return (int)Math.Clamp(rows, 64, MostEncodedRows);
    }

    /// <summary>Encodes rows behind the <paramref name="first"/> rows that are in <paramref name="codes"/> already.</summary>
    private void EncodeRows(Operand x, int first, bool tiled, SaeParameters sae, CudaWeight encoder, ulong weights, CudaCodes codes)
    {
        Kernel kernel = EncoderFor(x, tiled, encoder);
        bool plain = !tiled && !IsWide(x);
        long roundedBytes = RoundedBytes(x, tiled, Options.SaePrecision);
        bool few = !tiled && !plain;
        int tileFeatures = few && sae.FeatureCount <= NarrowFeatures ? NarrowTile : kernel.Info.TileColumns;
        int tiles = (int)Blocks(sae.FeatureCount, tileFeatures);
        long lists = (long)x.Rows * tiles;
        // The forms for few rows give each list room for a whole tile; the tiled ones put them behind each other.
        long pairs = tiled ? (long)x.Rows * sae.FeatureCount : lists * tileFeatures;
        _scratch.Begin(lists * sizeof(int), lists * sizeof(long), lists * sizeof(int), x.Rows * sizeof(int), pairs * sizeof(int),
            pairs * sizeof(float), roundedBytes);
        var made = new TileLists(
            _scratch.Take(lists * sizeof(int)), _scratch.Take(lists * sizeof(long)), _scratch.Take(lists * sizeof(int)),
            _scratch.Take(x.Rows * sizeof(int)),
            _scratch.Take(pairs * sizeof(int)), _scratch.Take(pairs * sizeof(float)), lists, pairs, tiles);
        if (roundedBytes > 0)
            x = Rounded(x, roundedBytes);
        LaunchQueue queue = BeginOp();
        ulong cursor = tiled ? queue.Upload<long>([0]) : 0;
        queue.Begin(kernel, tiles, tiled ? Blocks(x.Rows, kernel.Info.TileRows) : plain ? x.Rows : 1)
            .View(x.Address, x.Span / ElementsOf(kernel, 0)).View(weights, encoder.Length / ElementsOf(kernel, 1))
            .View(Address(sae.EncoderBias), sae.FeatureCount).View(Address(sae.Threshold), sae.FeatureCount)
            .View(made.Counts, lists).View(made.Offsets, lists).View(made.Features, pairs).View(made.Values, pairs);
        if (tiled)
            queue.View(cursor, 1).Long(pairs);
        if (!plain)
            queue.Int(x.Rows);
        queue.Int(sae.InputDim).Int(sae.FeatureCount).Int(x.Stride);
        if (few)
            queue.Int(tileFeatures);
        queue.End();
        GatherLists(queue, made, x.Rows, first, codes);
    }

    private void GatherLists(LaunchQueue queue, TileLists made, int rows, int first, CudaCodes codes)
    {
        queue.Begin(_kernels["codes_scan_tiles"], rows)
            .View(made.Counts, made.Lists).View(made.Places, made.Lists).View(made.RowCounts, rows).Int(made.Tiles).End();
        queue.Begin(_kernels["codes_scan_rows"], 1)
            .View(made.RowCounts, rows).View(codes.Starts, codes.Rows + 1L).Int(first).Int(rows).End();
        queue.Begin(_kernels["codes_gather"], Blocks(made.Tiles, TilesOfBlock), rows)
            .View(made.Counts, made.Lists).View(made.Places, made.Lists).View(made.Offsets, made.Lists)
            .View(made.Features, made.Pairs).View(made.Values, made.Pairs)
            .View(codes.Starts, codes.Rows + 1L).View(codes.Features, codes.Capacity).View(codes.Values, codes.Capacity)
            .Long(made.Pairs).Long(codes.Capacity).Int(first).Int(made.Tiles).End();
    }

    private Kernel EncoderFor(Operand x, bool tiled, CudaWeight encoder)
    {
        if (tiled)
            return UsesTensorCores(x) ? _kernels["sae_encode_tensor", encoder.TypeName, Suffix(Options.SaePrecision)]
                : _kernels["sae_encode_tile", encoder.TypeName];
        return IsWide(x) ? _kernels["sae_encode", encoder.TypeName, RowsSuffix(x.Rows)] : _kernels["sae_encode_plain", encoder.TypeName];
    }

    /// <summary>Waits for the number of pairs that the last encoding found, whether or not there was room for them.</summary>
    private long PairsOf(CudaCodes codes)
    {
        long count = 0;
        Flush();
        Staging.Download(codes.Starts + ((ulong)codes.Rows * sizeof(long)), MemoryMarshal.AsBytes(new Span<long>(ref count)));
        return count;
    }

    /// <summary>Where the lists of all tiles of some rows are.</summary>
    private readonly record struct TileLists(
        ulong Counts, ulong Offsets, ulong Places, ulong RowCounts, ulong Features, ulong Values, long Lists, long Pairs, int Tiles);
}
