namespace KernelScope.Cpu;

/// <summary>A number of rows that the compiler knows.</summary>
internal interface IRowCount
{
    static abstract int Rows { get; }
}

internal readonly struct OneRow : IRowCount
{
    public static int Rows => 1;
}

internal readonly struct TwoRows : IRowCount
{
    public static int Rows => 2;
}

internal readonly struct ThreeRows : IRowCount
{
    public static int Rows => 3;
}

internal readonly struct FourRows : IRowCount
{
    public static int Rows => 4;
}

internal readonly struct FiveRows : IRowCount
{
    public static int Rows => 5;
}

internal readonly struct SixRows : IRowCount
{
    public static int Rows => 6;
}

internal readonly struct SevenRows : IRowCount
{
    public static int Rows => 7;
}

internal readonly struct EightRows : IRowCount
{
    public static int Rows => 8;
}

internal readonly struct TwelveRows : IRowCount
{
    public static int Rows => 12;
}
