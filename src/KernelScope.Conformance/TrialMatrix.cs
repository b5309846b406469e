using KernelScope.Devices;

namespace KernelScope.Conformance;

/// <summary>How a matrix lies in its buffer: rows and columns around it that no op may touch.</summary>
internal readonly record struct Layout(int Above, int Below, int Left, int Right)
{
    public static Layout Dense => default;

    /// <summary>Rows wider than the matrix, which begins at an odd place.</summary>
    public static readonly Layout Strided = new(1, 2, 3, 4);

    /// <summary>Rows wider than the matrix, every row at a multiple of 16 bytes if its width is.</summary>
    public static readonly Layout Aligned = new(0, 1, 16, 16);

    /// <summary>Each kind in turn.</summary>
    public static Layout At(int turn) => (turn % 3) switch { 0 => Dense, 1 => Strided, _ => Aligned };
}

/// <summary>What an op may do with a matrix.</summary>
internal enum Role
{
    /// <summary>It is read; not a bit may change.</summary>
    Input,

    /// <summary>It is overwritten; what it held (NaN at first) must not matter.</summary>
    Output,

    /// <summary>It is read and changed.</summary>
    InOut,

    /// <summary>It may be changed or left; nobody looks.</summary>
    Scratch,
}

/// <summary>One matrix of a case, on both devices.</summary>
internal sealed class TrialMatrix
{
    private readonly Layout _layout;
    private readonly float[] _initial;

    public TrialMatrix(string name, int rows, int columns, Layout layout, Role role, ReadOnlySpan<float> values, Device tested,
        Device reference)
    {
        Name = name;
        Rows = rows;
        Columns = columns;
        Role = role;
        _layout = layout;
        int wholeRows = layout.Above + rows + layout.Below;
        Stride = layout.Left + columns + layout.Right;
        // NaN around the view: what is read from there shows.
        _initial = new float[wholeRows * Stride];
        Array.Fill(_initial, float.NaN);
        for (int r = 0; r < rows && !values.IsEmpty; r++)
            values.Slice(r * columns, columns).CopyTo(_initial.AsSpan(IndexOf(r, 0)));
        WholeTested = tested.CreateMat(wholeRows, Stride, name);
        WholeReference = reference.CreateMat(wholeRows, Stride, name);
        Actual = new float[_initial.Length];
        Expected = new float[_initial.Length];
    }

    public string Name { get; }

    public int Rows { get; }

    public int Columns { get; }

    public int Stride { get; }

    public Role Role { get; }

    public Mat WholeTested { get; }

    public Mat WholeReference { get; }

    public Mat Tested => View(WholeTested);

    public Mat Reference => View(WholeReference);

    /// <summary>The whole buffer of the device under test after a run.</summary>
    public float[] Actual { get; private set; }

    /// <summary>The whole buffer of the reference after a run.</summary>
    public float[] Expected { get; }

    /// <summary>Element (r, j) as the case made it.</summary>
    public float this[int r, int j] => _initial[IndexOf(r, j)];

    public int IndexOf(int r, int j) => ((_layout.Above + r) * Stride) + _layout.Left + j;

    /// <summary>√Σx² of a row of the input.</summary>
    public double NormOf(int r)
    {
        double squares = 0;
        for (int j = 0; j < Columns; j++)
            squares += (double)this[r, j] * this[r, j];
        return Math.Sqrt(squares);
    }

    /// <summary>The content before a run; an output holds <paramref name="stale"/>.</summary>
    public float[] Before(float stale)
    {
        float[] content = (float[])_initial.Clone();
        if (Role == Role.Output)
        {
            for (int r = 0; r < Rows; r++)
                content.AsSpan(IndexOf(r, 0), Columns).Fill(stale);
        }

        return content;
    }

    /// <summary>Whether the op may change the value at an index of the buffer.</summary>
    public bool MayChange(int index)
    {
        int r = (index / Stride) - _layout.Above;
        int j = (index % Stride) - _layout.Left;
        return Role != Role.Input && r >= 0 && r < Rows && j >= 0 && j < Columns;
    }

    /// <summary>Keeps a later run's values apart from the first run's, which it returns.</summary>
    public float[] KeepActual()
    {
        float[] kept = Actual;
        Actual = new float[kept.Length];
        return kept;
    }

    private Mat View(Mat whole) => whole.RowRange(_layout.Above, Rows).ColumnRange(_layout.Left, Columns);
}
