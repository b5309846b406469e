using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>One forward call: the rows of one or several sessions, one session's after the other's, with the buffers that they pass through. Rented from <see cref="CallPool"/>; disposing lets the sessions go and gives the buffers back.</summary>
internal sealed class ForwardCall(CallPool pool, ActivationBuffers buffers) : IDisposable
{
    private Part[] _parts = new Part[1];
    private SequenceRows[] _sequences = new SequenceRows[1];
    private int[] _tokens = [];
    private int _count;

    /// <summary>The buffers.</summary>
    public ActivationBuffers Buffers { get; } = buffers;

    /// <summary>Number of rows of all sessions.</summary>
    public int Rows { get; private set; }

    /// <summary>The activations of the call's rows.</summary>
    public Activations Activations { get; private set; }

    /// <summary>One token for each row.</summary>
    public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, Rows);

    /// <summary>The position behind the last token of the longest sequence.</summary>
    public int EndPosition { get; private set; }

    /// <summary>The sessions with their rows.</summary>
    public ReadOnlySpan<Part> Parts => _parts.AsSpan(0, _count);

    /// <summary>Whether the sequences went on by the call's rows; a call that ends without is undone.</summary>
    public bool IsDone { private get; set; }

    /// <summary>Adds a session that was entered, with its tokens, which the session can take. From here on the call lets it go.</summary>
    public void Add(Session session, ReadOnlySpan<int> tokens, LogitRows logits)
    {
        if (_count == _parts.Length)
        {
            Array.Resize(ref _parts, 2 * _count);
            Array.Resize(ref _sequences, 2 * _count);
        }

        if (_tokens.Length < Buffers.RowCount)
            _tokens = new int[Buffers.RowCount];
        tokens.CopyTo(_tokens.AsSpan(Rows));
        session.Cache.Own(session.Position, tokens.Length);
        session.Hooks.Begin(session.Model.Device, tokens, session.Position);
        if (session.Hooks.Listens(Site.Logits))
            logits = LogitRows.All;
        int logitCount = logits switch { LogitRows.None => 0, LogitRows.Last => 1, _ => tokens.Length };
        int firstRow = Rows;
        Rows += tokens.Length;
        EndPosition = Math.Max(EndPosition, session.Position + tokens.Length);
        Activations = Buffers.Rows(Rows);
        _parts[_count++] = new Part(session, firstRow, tokens.Length, logitCount);
    }

    /// <summary>Where each session's rows are, with its cache of a layer. Valid until the next call.</summary>
    public ReadOnlySpan<SequenceRows> Sequences(int layer)
    {
        for (int n = 0; n < _count; n++)
            _sequences[n] = new(_parts[n].Session.Cache[layer], _parts[n].FirstRow, _parts[n].RowCount, _parts[n].Session.Position);
        return _sequences.AsSpan(0, _count);
    }

    /// <summary>Whether a session's logits, one row as others' are, come from a product for all of them.</summary>
    public bool SharesLogits(in Part part) => _count > 1 && part.LogitCount == 1;

    /// <summary>Whether any session's hooks listen at a site of a layer.</summary>
    public bool Listens(Site site, int layer = 0)
    {
        foreach (Part part in Parts)
        {
            if (part.Session.Hooks.Listens(site, layer))
                return true;
        }

        return false;
    }

    /// <summary>Calls the hooks at a site of a layer, each session's with its own rows.</summary>
    public void Fire(Site site, int layer, Mat value)
    {
        foreach (Part part in Parts)
        {
            if (part.Session.Hooks.Listens(site, layer))
                part.Session.Hooks.Fire(site, layer, part.Of(value));
        }
    }

    /// <summary>Lets the sessions go and gives the buffers back. After a failure, captures drop the rows of the call, which are of no sequence.</summary>
    public void Dispose()
    {
        foreach (Part part in Parts)
        {
            if (!IsDone)
                part.Session.Hooks.Rewind(part.Session.Position);
            part.Session.Leave();
        }

        IsDone = false;
        Array.Clear(_parts, 0, _count);
        Array.Clear(_sequences, 0, _count);
        _count = 0;
        Rows = 0;
        EndPosition = 0;
        pool.Return(this);
    }

    /// <summary>A session and its rows.</summary>
    /// <param name="Session">The session.</param>
    /// <param name="FirstRow">The first of its rows.</param>
    /// <param name="RowCount">Their number.</param>
    /// <param name="LogitCount">Of how many of them, the last ones, logits are computed.</param>
    internal readonly record struct Part(Session Session, int FirstRow, int RowCount, int LogitCount)
    {
        /// <summary>The session's rows of a matrix.</summary>
        public Mat Of(Mat value) => value.RowRange(FirstRow, RowCount);

        /// <summary>The session's tokens among the call's.</summary>
        public ReadOnlySpan<int> Of(ReadOnlySpan<int> tokens) => tokens.Slice(FirstRow, RowCount);

        /// <summary>Those of them whose logits are computed.</summary>
        public Mat LogitRowsOf(Mat value) => value.RowRange(FirstRow + RowCount - LogitCount, LogitCount);
    }
}
